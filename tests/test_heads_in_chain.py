"""`fmcib run --head`: the same number in CSV, Parquet, SR, ledger and report, from the features beside it."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pyarrow.parquet as pq
import pytest

from fmcib_module import run
from fmcib_module.adapters.head_file import write_head
from fmcib_module.cli import main
from fmcib_module.core.errors import ConfigError, OutputError
from fmcib_module.core.heads import Head, HeadKind
from fmcib_module.core.ledger import ExitCode
from fmcib_module.ledger_file import read_ledger
from tests import phantoms
from tests.adapters.report_builders import PRIVATE_CODE_WARNING, dciodvfy_complaints, dcmqi_values
from tests.chain import LESIONS, features_of, rows_of
from tests.report.browser import needs_chromium, see
from tests.tools import needs_dciodvfy

D = 512
"""Features of the packaged weights."""

QUICK = {"pictures": False, "report": False, "sr": False, "seg": False}


def a_head(weights_sha256: str, **changes: object) -> Head:
    """A probability of "benign" and 'malignant, "sure"', of random coefficients."""
    rng = np.random.default_rng(5)
    slope = rng.standard_normal(D) * 0.05
    head = Head(
        name="malignancy",
        kind=HeadKind.LOGISTIC,
        classes=("benign", 'malignant, "sure"'),
        mean=rng.random(D),
        scale=0.5 + rng.random(D),
        coefficients=np.stack([np.zeros(D), slope]),
        intercepts=np.array([0.0, -0.3]),
        extractor="mini",
        weights_sha256=weights_sha256,
        mode="published",
        training_sha256="ee" * 32,
        version="1.0",
    )
    return replace(head, **changes)  # type: ignore[arg-type]


def a_risk(weights_sha256: str) -> Head:
    slope = np.random.default_rng(6).standard_normal((1, D)) * 0.05
    return a_head(
        weights_sha256, name="survival", kind=HeadKind.COX, classes=(), coefficients=slope, intercepts=np.zeros(1)
    )


class Ran:
    """A run of the phantom patient with two heads."""

    def __init__(self, folder: Path) -> None:
        from fmcib_module.adapters.weights import verify

        self.source, self.output = folder / "in", folder / "out"
        self.study = phantoms.write_study(self.source / "patient", lesions=LESIONS)
        sha256 = verify("mini").sha256
        self.heads = [write_head(folder / f"{h.name}.json", h) for h in (a_head(sha256), a_risk(sha256))]
        self.files = [str(folder / f"{head.name}.json") for head in self.heads]
        self.ledger = run(self.source, self.output, heads=self.files, pictures=False)
        self.rows = rows_of(self.output / self.study.series_uid / "features.csv")

    def expected(self, row: dict[str, str]) -> tuple[float, float]:
        """Probability of the second class and log hazard ratio, from the features in the table."""
        logistic, cox = self.heads
        x = (features_of(row).astype(float) - logistic.mean) / logistic.scale
        log_odds = float(x @ logistic.coefficients[1] + logistic.intercepts[1])
        return 1 / (1 + np.exp(-log_odds)), float(x @ cox.coefficients[0])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("heads"))


def test_tables_hold_the_probability_that_the_features_beside_it_give(ran: Ran) -> None:
    assert ran.ledger.exit_code is ExitCode.OK
    with (ran.output / "features.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header[-3:] == ["head.malignancy.benign", 'head.malignancy.malignant, "sure"', "head.survival.risk"]
    assert rows_of(ran.output / "features.csv") == ran.rows
    cohort = pq.read_table(ran.output / "features.parquet").to_pydict()
    for place, row in enumerate(ran.rows):
        probability, risk = ran.expected(row)
        assert float(row[header[-2]]) == pytest.approx(probability, rel=1e-12)
        assert float(row[header[-3]]) == pytest.approx(1 - probability, rel=1e-9)
        assert float(row[header[-1]]) == pytest.approx(risk, rel=1e-9)
        assert [cohort[name][place] for name in header[-3:]] == [float(row[name]) for name in header[-3:]]


@needs_dciodvfy
def test_the_sr_holds_them_as_measurements_with_their_own_algorithm(ran: Ran) -> None:
    path = ran.output / ran.study.series_uid / "features.sr.dcm"
    assert dciodvfy_complaints(path) == {f"Warning - {PRIVATE_CODE_WARNING}"}
    groups = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(ran.rows)
    for group, row in zip(groups, ran.rows, strict=True):
        measurements = {m.name.meaning: m for m in group.get_measurements() if m.name.value.startswith("HEAD")}
        assert set(measurements) == {
            "malignancy: probability of benign",
            'malignancy: probability of malignant, "sure"',
            "survival: log hazard ratio",
        }
        found = measurements['malignancy: probability of malignant, "sure"']
        assert found.value == pytest.approx(ran.expected(row)[0], rel=1e-12)
        assert (found.name.scheme_designator, found.unit.value) == ("99FMCIB", "1")
        items = [
            i for i in found[0].ContentSequence if i.ConceptNameCodeSequence[0].CodeMeaning.startswith("Algorithm")
        ]
        said = [item.TextValue for item in items]
        assert said[:2] == ["malignancy (logistic)", "1.0"]
        assert f"head SHA-256: {ran.heads[0].sha256}" in said


@pytest.mark.slow
@needs_dciodvfy
def test_a_group_without_a_region_holds_them_too(ran: Ran, tmp_path: Path) -> None:
    run(ran.source, tmp_path / "out", heads=ran.files, **{**QUICK, "sr": True})
    path = tmp_path / "out" / ran.study.series_uid / "features.sr.dcm"
    assert dciodvfy_complaints(path) == {f"Warning - {PRIVATE_CODE_WARNING}"}
    numbers = [
        [m.value for m in group.get_measurements() if m.name.value.startswith("HEAD")]
        for group in hd.sr.srread(path).content.get_image_measurement_groups()
    ]
    assert [len(group) for group in numbers] == [3]  # the RTSTRUCT's lesion; the SEG's has a region


def test_dcmqi_reads_scores_and_features(ran: Ran, tmp_path: Path) -> None:
    found = dcmqi_values(ran.output / ran.study.series_uid / "features.sr.dcm", tmp_path)
    columns = list(ran.rows[0])[-3:]
    for numbers, row in zip(found.values(), ran.rows, strict=True):
        assert len(numbers) == 3 + D
        np.testing.assert_allclose(numbers[:3], [float(row[name]) for name in columns], rtol=1e-6)
        np.testing.assert_array_equal(numbers[3:], features_of(row))


def test_ledger_and_report_say_which_head_said_what(ran: Ran) -> None:
    ledger = read_ledger(ran.output)
    assert ledger is not None
    assert [(h["name"], h["sha256"], h["kind"]) for h in ledger.run["heads"]] == [
        ("malignancy", ran.heads[0].sha256, "logistic"),
        ("survival", ran.heads[1].sha256, "cox"),
    ]
    (entry,) = (entry for entry in ledger.series if entry.rois)
    for roi, row in zip(entry.rois, ran.rows, strict=True):
        assert roi.scores["head.survival.risk"] == pytest.approx(ran.expected(row)[1], rel=1e-9)
    page = (ran.output / "report.html").read_text()
    assert ran.heads[0].sha256 in page
    assert "head.survival.risk" in page
    everything = json.dumps(ledger.run) + page
    assert str(ran.source.parent) not in everything  # names, not folders


@pytest.mark.slow
@needs_chromium
def test_the_report_shows_scores_in_the_table_and_enlarged(ran: Ran, tmp_path: Path) -> None:
    script = """
        openViewer(LESIONS[0]);
        const texts = (query) => [...document.querySelectorAll(query)].map((node) => node.textContent);
        const cells = (row) => [...row.cells].map((cell) => cell.textContent);
        const rows = [...document.querySelectorAll('#table tbody tr')].map(cells);
        return [texts('#table thead th'), rows, texts('#viewer-body dt'), texts('#viewer-body dd')];
    """
    titles, rows, names, values = see(ran.output / "report.html", tmp_path, script)
    for row, shown in zip(ran.rows, rows, strict=True):
        probability, risk = ran.expected(row)
        assert shown[titles.index('malignancy: malignant, "sure"')] == f"{probability:.3f}"
        assert shown[titles.index("survival: risk")] == f"{risk:.3f}"
    facts = dict(zip(names, values, strict=True))
    assert facts["malignancy: benign"] == f"{1 - ran.expected(ran.rows[0])[0]:.4f}"


def test_without_a_head_nothing_is_added(ran: Ran, tmp_path: Path) -> None:
    run(ran.source, tmp_path / "out", **QUICK)
    plain = rows_of(tmp_path / "out" / "features.csv")
    assert not [name for name in plain[0] if name.startswith("head.")]
    for row, with_heads in zip(plain, ran.rows, strict=True):
        np.testing.assert_array_equal(features_of(row), features_of(with_heads))
    ledger = read_ledger(tmp_path / "out")
    assert ledger is not None
    assert "heads" not in ledger.run


def test_a_rerun_takes_over_and_another_head_is_another_configuration(ran: Ran, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(ran.source, output, heads=ran.files, **QUICK)
    before = (output / "features.csv").read_bytes()
    run(ran.source, output, heads=ran.files, **QUICK)
    assert (output / "features.csv").read_bytes() == before
    with pytest.raises(OutputError, match=r"another configuration .different: heads"):
        run(ran.source, output, heads=ran.files[:1], **QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights_sha256": "00" * 32}, r"made for other weights: mini \(000000000000\)"),
        ({"mode": "centred"}, "made for preprocessing mode 'centred', not 'published'"),
    ],
)
def test_a_head_for_other_features_is_refused_before_anything_is_run(
    ran: Ran,
    tmp_path: Path,
    change: dict[str, object],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_head(tmp_path / "head.json", replace(ran.heads[0], **change))  # type: ignore[arg-type]
    arguments = ["fmcib", "run", str(ran.source), str(tmp_path / "out"), "--head", str(tmp_path / "head.json")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert re.search(message, " ".join((said.out + said.err).split()))
    assert not (tmp_path / "out").exists()


def test_the_same_head_twice_is_refused(ran: Ran, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two heads have the same name .malignancy"):
        run(ran.source, tmp_path / "out", heads=[ran.files[0], ran.files[0]])
