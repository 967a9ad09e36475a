"""The benchmark programs work: what they measure with is checked, and they run on tiny inputs."""

import argparse
import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from benchmarks import inputs, probes, report
from benchmarks.bench import ROOT, Bench, run_bench
from benchmarks.measure import Measured, ProcessFailedError, run_in_turn, run_process

TINY = inputs.TINY_SHAPE


def measured_by_a_small_process(code: str, log: Path) -> Measured:
    """Measure a program from a process that has imported little: a child's peak begins at its parent's size."""
    measure = (
        "import dataclasses, json, pathlib, sys; from benchmarks.measure import run_process\n"
        "measured = run_process([sys.executable, '-c', sys.argv[1]], pathlib.Path(sys.argv[2]))\n"
        "print(json.dumps(dataclasses.asdict(measured)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", measure, code, str(log)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Measured(**json.loads(done.stdout))


def test_the_peak_is_what_the_process_allocated(tmp_path: Path) -> None:
    small = measured_by_a_small_process("pass", tmp_path / "log")
    large = measured_by_a_small_process("x = b'1' * (600 * 2**20)", tmp_path / "log")
    assert 590 < large.peak_mib < 800
    assert small.peak_mib < 200


def test_the_peak_covers_the_processes_that_a_process_starts(tmp_path: Path) -> None:
    child = "import time; x = b'1' * (300 * 2**20); time.sleep(1.5)"
    parent = f"import subprocess, sys; ps = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in 'ab']\n"
    measured = measured_by_a_small_process(parent + "for p in ps: p.wait()", tmp_path / "log")
    assert 600 < measured.peak_mib < 800
    assert measured.seconds > 1.5


def test_the_most_open_files_are_told(tmp_path: Path) -> None:
    code = "import os, time; held = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]; time.sleep(1)"
    measured = measured_by_a_small_process(code, tmp_path / "log")
    assert 200 <= measured.peak_files < 230


def test_a_process_that_fails_stops_the_measurement_and_shows_why(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailedError, match="no such scan"):
        run_process([sys.executable, "-c", "raise SystemExit('no such scan')"], tmp_path / "log")


def test_the_work_of_others_is_told_apart_from_our_own(tmp_path: Path) -> None:
    spin = "import time; end = time.perf_counter() + 1.0\nwhile time.perf_counter() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]):
        measured = run_process([sys.executable, "-c", "import time; time.sleep(0.8)"], tmp_path / "log")
    assert measured.cpu_seconds < 0.3
    assert measured.others_share > 0.5 / (os.cpu_count() or 1)


def test_contestants_take_turns() -> None:
    order: list[str] = []

    def contestant(name: str) -> Measured:
        order.append(name)
        return Measured(1.0, 1.0, 1.0)

    run_in_turn({"a": lambda: contestant("a"), "b": lambda: contestant("b")}, {"a": 3, "b": 2})
    assert order == ["a", "b", "a", "b", "a"]


def test_a_contestant_that_fails_drops_out_and_what_was_measured_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def contestant(name: str, *, fails: bool) -> Measured:
        order.append(name)
        if fails:
            raise ProcessFailedError("no space left")
        return Measured(1.5, 2.0, 300.0)

    def measure(bench: Bench, _: argparse.Namespace) -> None:
        runs = {"good": partial(contestant, "good", fails=False), "bad": partial(contestant, "bad", fails=True)}
        bench.in_turn(runs, {"good": 2, "bad": 2})

    monkeypatch.setattr(sys, "argv", ["scaling", "--work", str(tmp_path)])
    with pytest.raises(ProcessFailedError, match="bad: no space left"):
        run_bench("scaling", measure)
    assert order == ["good", "bad", "good"]
    text = report.render(tmp_path)
    assert "ended early" in text
    assert "| good | 1.50 | 2.00 | 300 | 0 % | 2 |" in text


def test_the_scan_is_the_same_as_dicom_and_as_nrrd(tmp_path: Path) -> None:
    inputs.make_single(tmp_path, TINY, [1, 3])
    slices = sorted(str(path) for path in (tmp_path / "single/dicom_3").glob("*.dcm"))
    dicom, nrrd = sitk.ReadImage(slices), sitk.ReadImage(str(tmp_path / "single/nrrd_3/scan.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(dicom), sitk.GetArrayFromImage(nrrd))
    for attribute in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(dicom, attribute)(), getattr(nrrd, attribute)(), atol=1e-9)


def test_all_seed_tables_hold_the_same_points_and_fewer_lesions_are_the_first_of_more(tmp_path: Path) -> None:
    inputs.make_single(tmp_path, TINY, [1, 3])

    def points(name: str) -> list[tuple[str, str, str]]:
        with (tmp_path / "single" / name).open(newline="") as file:
            return [(row["coordX"], row["coordY"], row["coordZ"]) for row in csv.DictReader(file)]

    three = points("published_3.csv")
    assert points("dicom_3/seeds.csv") == points("nrrd_3/seeds.csv") == three
    assert points("dicom_1/seeds.csv") == points("published_1.csv") == three[:1]


def test_series_of_a_cohort_differ_in_their_uids_only(tmp_path: Path) -> None:
    uids = inputs.write_series(tmp_path, (2, 8, 8), 3)
    headers = [pydicom.dcmread(path) for path in sorted(tmp_path.rglob("*.dcm"))]
    assert len(set(uids)) == len({ds.StudyInstanceUID for ds in headers}) == 3
    assert len({ds.SOPInstanceUID for ds in headers}) == 6
    assert all(ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID for ds in headers)
    assert headers[0].PixelData == headers[2].PixelData == headers[4].PixelData


def test_the_reader_probe_counts_the_slices_under_a_patch(tmp_path: Path) -> None:
    inputs.make_single(tmp_path, (100, 64, 64), [1])
    options = argparse.Namespace(source=tmp_path / "single/dicom_1", lesions=1)
    figures = probes.decode(options)
    assert figures["slices_in_series"] == 100
    assert 50 / 1.25 <= figures["slices_opened"] <= 50 / 1.25 + 3  # 50 mm of 1.25 mm slices, and the neighbours
    assert probes.headers(options)["files"] == 100


def test_the_report_names_the_machine_and_says_when_it_was_busy(tmp_path: Path) -> None:
    machine = {
        "processor": "A processor",
        "flags": ["avx2"],
        "cores": 2,
        "memory_gib": 8.0,
        "system": "Linux 6",
        "python": "3.11.7",
        "versions": {"torch": "2.14.1"},
    }
    run = {"median_s": 1.5, "median_cpu_s": 2.0, "median_peak_mib": 300.0, "others_share": 0.25, "all_s": [1.4, 1.6]}
    imports = {"help": {"all_imports_ms": 90.0, "modules": 200, "heavy_ms": {"numpy": 80.0}}}
    result = {
        "quick": False,
        "complete": True,
        "machine": machine,
        "load_1min_before": 3.2,
        "results": {"runs": {"help": run}, "imports": imports},
        "targets": [{"name": "start", "value": 2.6, "limit": 2.5, "at_least": False, "met": False}],
    }
    (tmp_path / "import_time.json").write_text(json.dumps(result))
    text = report.render(tmp_path)
    assert "A processor, 2 cores, 8 GiB" in text
    assert "busy with other work (load 3.2)" in text
    assert "| help | 1.50 | 2.00 | 300 | 25 % | 2 |" in text
    assert "| start | 2.6 | at most 2.5 | no |" in text


@pytest.mark.slow
def test_every_program_runs_on_tiny_inputs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.all", "--quick", "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for heading in ("## Encoder", "## Scaling", "## Import time", "## Loader"):
        assert heading in done.stdout


@pytest.mark.slow
def test_a_tree_of_series_is_measured_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--quick", "--work", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads((tmp_path / "load_quick.json").read_text())
    assert result["complete"]
    assert result["results"]["series"]["series_written"] == 12
    assert all(target["met"] for target in result["targets"])
