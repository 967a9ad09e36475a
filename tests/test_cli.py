"""The command line: exit codes, messages and what it prints."""

import json
import os
import subprocess
import sys

import pydicom
import pytest

from fmcib_module import __version__, cli
from tests import damage, phantoms

PLAIN = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}


def fmcib(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["fmcib", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.fixture
def call(capsys, monkeypatch):
    from rich.console import Console

    from fmcib_module import cli_display

    def run(*arguments: object) -> tuple[int, str, str]:
        # consoles keep the stream they were made with; pytest replaces it for each test
        monkeypatch.setattr(cli_display, "out", Console(file=sys.stdout, soft_wrap=True, width=200))
        monkeypatch.setattr(cli_display, "err", Console(file=sys.stderr, soft_wrap=True, width=200))
        return fmcib(capsys, monkeypatch, *arguments)

    return run


def test_run_ends_with_0_and_says_where_the_results_are(call, tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False)
    code, out, err = call("run", tmp_path / "in", tmp_path / "out", "--no-sr")
    assert code == 0
    assert "lesions: " in out
    assert "not the published model" in out
    assert study.series_uid in err
    assert (tmp_path / "out" / "features.parquet").is_file()


def test_a_failing_series_is_named_with_what_to_do_and_ends_with_3(call, tmp_path):
    phantoms.write_study(tmp_path / "in" / "a", seed=1, seg=False)
    bad = phantoms.write_study(tmp_path / "in" / "b", seed=2, seg=False)
    damage.drop_slice(bad, 10)
    code, _, err = call("run", tmp_path / "in", tmp_path / "out", "--no-sr", "--no-seg")
    assert code == 3
    assert bad.series_uid in err
    assert "--irregular resample" in err or "irregular" in err


def test_nothing_to_do_ends_with_4(call, tmp_path):
    (tmp_path / "in").mkdir()
    code, _, _ = call("run", tmp_path / "in", tmp_path / "out")
    assert code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "absent", "out"],
        ["run", ".", "out", "--weights", "nonsense"],
        ["run", ".", "out", "--mode", "sideways"],
        ["run", ".", "out", "--config", "absent.yml"],
        ["run", ".", "out", "--batch-size", "-1"],
        ["run", ".", "out", "--unknown"],
        ["run", "."],
        ["weights", "fetch", "nonsense"],
        ["weights", "verify", "nonsense"],
        ["nonsense"],
    ],
)
def test_wrong_usage_ends_with_2_and_one_message_without_traceback(call, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*arguments)
    assert code == 2
    assert err.strip()
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_settings_come_from_yaml_and_options_win(call, tmp_path):
    phantoms.write_study(tmp_path / "in", seg=False)
    (tmp_path / "my.yml").write_text("mode: centred\nsr: false\nrois: ['re:GTV']\n")
    code, _, _ = call("run", tmp_path / "in", tmp_path / "out", "--config", tmp_path / "my.yml", "--mode", "published")
    assert code == 0
    settings = json.loads((tmp_path / "out" / "run_status.json").read_text())["run"]["settings"]
    assert (settings["mode"], settings["sr"], settings["rois"]) == ("published", False, ["re:GTV"])


def test_json_log_is_one_object_per_line(call, tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False)
    code, out, err = call("run", tmp_path / "in", tmp_path / "out", "--json-log", "--no-sr", "--no-seg")
    events = [json.loads(line) for line in err.splitlines()]
    assert code == 0
    assert out == ""
    assert [event["event"] for event in events] == ["series", "done"]
    assert events[0]["series_uid"] == study.series_uid
    assert events[-1]["exit_code"] == 0


def test_inspect_lists_series_and_rois_without_writing_or_importing_torch(tmp_path):
    study = phantoms.write_study(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    code = (
        "import sys; from fmcib_module.cli import main\n"
        f"sys.argv = ['fmcib', 'inspect', {str(tmp_path / 'in')!r}]\n"
        "try: main()\n"
        "except SystemExit as end: print('exit', end.code, 'torch' in sys.modules, 'highdicom' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=PLAIN, check=True)
    assert "exit 0 False False" in done.stdout
    assert study.series_uid in done.stdout
    for name, centre in study.centroids.items():
        assert name in done.stdout
        assert f"({', '.join(f'{value:.1f}' for value in centre)}) mm" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_inspect_gives_the_exit_code_that_run_would_give(call, tmp_path):
    good = phantoms.write_study(tmp_path / "in" / "a", seed=1, seg=False)
    assert call("inspect", tmp_path / "in")[0] == 0
    bad = phantoms.write_study(tmp_path / "in" / "b", seed=2, seg=False)
    uid = damage.drop_slice(bad, 10)
    code, out, _ = call("inspect", tmp_path / "in")
    assert code == 3
    assert "not evenly spaced" in out
    assert good.series_uid in out
    assert uid
    code, out, _ = call("inspect", tmp_path / "in", "--json")
    assert code == 3
    assert json.loads(out)["exit_code"] == 3


def test_weights_list_names_licences_and_verify_checks_the_packaged_file(call):
    code, out, _ = call("weights", "list")
    assert code == 0
    assert "CC-BY-NC-4.0" in out
    assert "mini" in out
    code, out, _ = call("weights", "verify", "mini")
    assert code == 0
    assert "ok, 512 features" in out


def test_demo_runs_the_example_patient_from_all_kinds_of_seeds(call, tmp_path):
    code, out, _ = call("demo", tmp_path / "demo")
    assert code == 0
    ledger = json.loads((tmp_path / "demo" / "results" / "run_status.json").read_text())
    kinds = {roi["kind"] for entry in ledger["series"] for roi in entry["rois"]}
    assert kinds == {"RTSTRUCT", "SEG", "POINT"}
    assert "not the published model" in out


def test_version_and_help_name_themselves(call):
    assert call("--version")[1].strip() == f"fmcib {__version__}"
    code, out, _ = call("--help")
    assert code == 0
    for command in ("run", "demo", "inspect", "weights"):
        assert command in out


def test_names_ids_and_dates_of_the_patient_appear_nowhere_but_in_dicom(call, tmp_path):
    study = phantoms.write_study(tmp_path / "in", patient_name="SECRET^NAME", patient_id="SECRET-ID")
    for path in (*study.ct_paths, study.rtstruct_path, study.seg_path):
        dataset = pydicom.dcmread(path)
        dataset.StudyDate, dataset.PatientBirthDate, dataset.AccessionNumber = "19330107", "19330108", "SECRETACC"
        dataset.StudyDescription = dataset.SeriesDescription = "SECRETDESC"
        dataset.save_as(path)
    damage.shift_slice(study, 3, 0.9)
    outputs = [call("inspect", tmp_path / "in"), call("run", tmp_path / "in", tmp_path / "out", "--no-sr")]
    outputs += [call("run", tmp_path / "in", tmp_path / "out2", "--irregular", "resample", "--json-log")]
    texts = [text for _, out, err in outputs for text in (out, err)]
    files = [p for p in tmp_path.rglob("out*/**/*") if p.is_file() and p.suffix != ".dcm"]
    assert files
    for content in (*(text.encode() for text in texts), *(path.read_bytes() for path in files)):
        for secret in (b"SECRET", b"19330107", b"19330108"):
            assert secret not in content
