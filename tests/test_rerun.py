"""Runs into a folder that holds results: what is repeated, kept, refused and replaced."""

import json

import pydicom
import pytest

from fmcib_module import lazy_encoder, pipeline, run
from fmcib_module.adapters import volume_reader
from fmcib_module.core.errors import OutputError
from fmcib_module.core.ledger import ExitCode
from fmcib_module.progress import Progress
from tests import phantoms
from tests.chain import LESIONS, noting, rows_of

NAMES = ("GTV-1", "Node")


@pytest.fixture
def study(tmp_path):
    return phantoms.write_study(tmp_path / "in" / "patient", lesions=LESIONS)


def test_a_rerun_repeats_nothing_and_gives_the_same_files(study, tmp_path, monkeypatch):
    first = run(tmp_path / "in", tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("features*")}
    monkeypatch.setattr(lazy_encoder, "load_encoder", lambda *_, **__: pytest.fail("the network was loaded"))
    second = run(tmp_path / "in", tmp_path / "out")
    assert second.series == first.series
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("damaged", ["features.csv", "features.sr.dcm", "seeds.seg.dcm"])
def test_a_rerun_repeats_a_series_whose_files_are_gone_or_changed(study, tmp_path, damaged):
    run(tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / study.series_uid / damaged
    path.write_bytes(path.read_bytes()[:-1])
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert ledger.exit_code is ExitCode.OK
    assert path.stat().st_size > 0
    assert rows_of(tmp_path / "out" / study.series_uid / "features.csv") == rows_of(tmp_path / "out" / "features.csv")


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(tmp_path, monkeypatch):
    studies = [phantoms.write_study(tmp_path / "in" / str(n), seed=n, seg=False, lesions=LESIONS[:1]) for n in range(3)]
    undisturbed = run(tmp_path / "in", tmp_path / "whole")
    order = [entry.series_uid for entry in undisturbed.series if entry.rois]
    written = []

    def interrupt(entry):
        written.append(entry.series_uid)
        if len(written) == 2:
            raise KeyboardInterrupt

    from fmcib_module.progress import Progress

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "in", tmp_path / "out", batch_size=1, progress=Progress(series=interrupt))
    assert json.loads((tmp_path / "out" / "run_status.json").read_text())["complete"] is False
    assert not (tmp_path / "out" / "features.csv").exists()
    cut = []
    monkeypatch.setattr(volume_reader, "decode_slices", noting(cut))
    resumed = run(tmp_path / "in", tmp_path / "out", batch_size=1)
    assert cut
    assert {instance.sop_instance_uid for instance in cut} <= {
        pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        for study in studies
        if study.series_uid == order[2]
        for path in study.ct_paths
    }
    assert [entry.series_uid for entry in resumed.series if entry.rois] == order
    for name in ("features.csv", "features.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_configuration_is_refused_unless_forced(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out")
    before = (tmp_path / "out" / "features.csv").read_bytes()
    with pytest.raises(OutputError, match=r"another configuration \(different: settings_sha256\).*--force"):
        run(tmp_path / "in", tmp_path / "out", mode="centred")
    assert (tmp_path / "out" / "features.csv").read_bytes() == before
    ledger = run(tmp_path / "in", tmp_path / "out", mode="centred", sr=False, force=True)
    assert ledger.run["mode"] == "centred"
    assert not (tmp_path / "out" / study.series_uid / "features.sr.dcm").exists()
    assert {row["mode"] for row in rows_of(tmp_path / "out" / "features.csv")} == {"centred"}


def test_force_deletes_only_what_an_earlier_run_wrote(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out")
    kept = tmp_path / "out" / study.series_uid / "notes.txt"
    kept.write_text("mine")
    run(tmp_path / "in", tmp_path / "out", rois=["Node"], force=True)
    assert kept.read_text() == "mine"


def test_a_ledger_that_names_files_elsewhere_is_refused(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out")
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    ledger = tmp_path / "out" / "run_status.json"
    ledger.write_text(ledger.read_text().replace('"features.csv"', '"../../victim.txt"'))
    with pytest.raises(OutputError, match=r"no file of ours"):
        run(tmp_path / "in", tmp_path / "out")
    run(tmp_path / "in", tmp_path / "out", force=True)  # starts afresh without trusting that ledger
    assert victim.read_text() == "mine"


def test_results_inside_the_input_folder_are_not_taken_as_input(study, tmp_path):
    first = run(tmp_path / "in", tmp_path / "in" / "results")
    second = run(tmp_path / "in", tmp_path / "in" / "results")
    assert second.series == first.series
    assert second.problems == ()


def test_a_rerun_that_is_interrupted_early_forgets_nothing(tmp_path, monkeypatch):
    for n in range(2):
        phantoms.write_study(tmp_path / "in" / str(n), seed=n, seg=False, lesions=LESIONS[:1])
    first = run(tmp_path / "in", tmp_path / "out")
    monkeypatch.setattr(pipeline, "_jobs", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "in", tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(lazy_encoder, "load_encoder", lambda *_, **__: pytest.fail("a series was repeated"))
    assert run(tmp_path / "in", tmp_path / "out").series == first.series


def _interrupted(*_):
    raise KeyboardInterrupt


def test_a_rerun_deletes_files_that_the_changed_input_no_longer_gives(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / study.series_uid / "seeds.seg.dcm").exists()
    study.rtstruct_path.unlink()
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert [roi.label for entry in ledger.series for roi in entry.rois] == ["Node"]
    assert not (tmp_path / "out" / study.series_uid / "seeds.seg.dcm").exists()


def test_a_second_run_at_the_same_time_is_refused_and_the_first_goes_on(study, tmp_path):
    """Started from within the first, while its output is open."""
    refused = []

    def series(_):
        with pytest.raises(OutputError, match="another run is writing"):
            run(study.folder, tmp_path / "out")
        refused.append(True)

    ledger = run(study.folder, tmp_path / "out", progress=Progress(series=series))
    assert refused
    assert ledger.exit_code == 0
    assert run(study.folder, tmp_path / "out").series == ledger.series


def test_a_rerun_that_computes_nothing_still_says_what_computed_the_features(study, tmp_path):
    first = run(study.folder, tmp_path / "out")
    assert first.run["encoder"]["engine"]
    assert run(study.folder, tmp_path / "out").run["encoder"] == first.run["encoder"]


def test_what_a_killed_run_left_half_written_is_cleared_away(study, tmp_path):
    folder = tmp_path / "out" / "1.2.3" / "qc"
    folder.mkdir(parents=True)
    left = [tmp_path / "out" / ".features.csv.123.partial", folder / ".001-GTV.png.77.partial"]
    for path in left:
        path.write_bytes(b"half")
    run(study.folder, tmp_path / "out")
    assert not any(path.exists() for path in left)
