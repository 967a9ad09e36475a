"""The image, run for real with no network: the same files and values as `fmcib run` gives outside, and its manners.

`make image-test` builds it and runs this file.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fmcib_module.pipeline
from fmcib_module import __version__
from fmcib_module.adapters.salt import SALT_NAME
from requirements.dpkg_sbom import bill_of
from tests import phantoms
from tests.image.container import BASE, IMAGE, Container, start
from tests.image.pip_settings import CERTIFICATES
from tests.mhub.chain import OUTSIDE, write_points
from tests.shared import DATA, needs_shared

pytestmark = pytest.mark.skipif(not IMAGE, reason="needs the built image: make image-test")

OTHER_USER = "4711:4711"
MAX_MB_OVER_BASE = {"0": 600, "1": 1100}
"""Without and with what `fmcib batch` needs; SimpleITK's one library, already without symbols, is 264 of it."""
TORCH = ("torch", "monai", "triton", "nvidia", "cuda", "sympy", "mpmath", "networkx", "functorch", "torchgen")


@pytest.fixture
def container() -> Iterator[Container]:
    """A new one for each test, as an engine gives for each run."""
    with start(IMAGE) as started:
        yield started


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder that any user may write, as the one who mounts it has to see to."""
    _open_to_all(tmp_path)
    folder = tmp_path / "output"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def _open_to_all(folder: Path) -> None:
    """pytest's folders are closed to other users."""
    for parent in (folder, *folder.parents):
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    folder.chmod(0o755)


def _phantom(folder: Path) -> Path:
    phantoms.write_study(folder / "patient")
    return folder


def _check_equal(written: Path, source: Path, expected: Path, **settings: Any) -> None:
    """The image's output holds the files and the values of a run outside."""
    fmcib_module.pipeline.run(source, expected, weights="mini", **settings)
    ours, theirs = (
        {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        for folder in (written, expected)
    )
    assert set(ours) - {SALT_NAME} == set(theirs)  # the tests give a salt, the image makes its own
    rows, expected_rows = (pd.read_parquet(folder / "features.parquet") for folder in (written, expected))
    np.testing.assert_array_equal(np.stack(rows["features"].tolist()), np.stack(expected_rows["features"].tolist()))
    assert (written / "features.csv").read_bytes() == (expected / "features.csv").read_bytes()
    for name in (name for name in ours if name.endswith(".png")):
        assert ours[name].read_bytes() == theirs[name].read_bytes(), name


def test_the_image_alone_runs_the_default_workflow(container: Container, output: Path, tmp_path: Path) -> None:
    source = _phantom(tmp_path / "input")
    ended = container.run(source=source, output=output)
    assert ended.returncode == 0, ended.stderr
    _check_equal(output, source, tmp_path / "expected")


def test_any_other_user_may_run_it(container: Container, output: Path, tmp_path: Path) -> None:
    source = _phantom(tmp_path / "input")
    ended = container.run(source=source, output=output, user=OTHER_USER)
    assert ended.returncode == 0, ended.stderr
    assert {path.stat().st_uid for path in output.rglob("*")} == {4711}
    _check_equal(output, source, tmp_path / "expected")


def test_a_workflow_and_a_setting_are_chosen_as_mhub_users_do(
    container: Container, output: Path, tmp_path: Path
) -> None:
    source = _phantom(tmp_path / "input")
    arguments = ("--workflow", "from_rtstruct", "--config:modules.PatchExtractor.mode=centred")
    ended = container.run(*arguments, source=source, output=output)
    assert ended.returncode == 0, ended.stderr
    _check_equal(output, source, tmp_path / "expected", mode="centred", seed_sources=["RTSTRUCT"])


def test_it_gives_the_command_line(container: Container, output: Path, tmp_path: Path) -> None:
    source = _phantom(tmp_path / "input")
    assert container.run("fmcib", "--version").stdout.strip() == f"fmcib {__version__}"
    folders = ("/app/data/input_data", "/app/data/output_data")
    ended = container.run("fmcib", "run", *folders, "--weights", "mini", source=source, output=output)
    assert ended.returncode == 0, ended.stderr
    _check_equal(output, source, tmp_path / "expected")


def test_a_lesion_outside_its_scan_exits_with_3(container: Container, output: Path, tmp_path: Path) -> None:
    source = tmp_path / "input"
    study = phantoms.write_study(source / "patient", rtstruct=False, seg=False)
    write_points(source / f"{study.series_uid}.json", inside=phantoms.CENTRE_LPS, outside=OUTSIDE)
    ended = container.run("--workflow", "from_json", source=source, output=output)
    assert ended.returncode == 3, ended.stderr
    assert "'outside'" in ended.stderr
    lesions = json.loads((output / "run_status.json").read_text())["lesions"]
    assert (lesions["ok"] + lesions["flagged"], lesions["failed"]) == (1, 1)


def test_an_input_without_lesions_exits_with_4(container: Container, output: Path, tmp_path: Path) -> None:
    phantoms.write_study(tmp_path / "input", rtstruct=False, seg=False)
    assert container.run(source=tmp_path / "input", output=output).returncode == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workflow", "from_nothing"), "there is no workflow 'from_nothing'"),
        (("--config:modules.PatchExtractor.moed=centred",), "'moed'"),
        (("--config:modules.EncoderRunner.weights=absent",), "no weights named 'absent'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], message: str, container: Container, output: Path) -> None:
    ended = container.run(*arguments, output=output)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert not list(output.iterdir())


def test_it_does_batches(container: Container, output: Path, tmp_path: Path) -> None:
    if container.labels["fmcib.batch"] != "1":
        pytest.skip("needs an image with Ray: make image-test BATCH=1")
    source = _phantom(tmp_path / "input")
    (source / "manifest.csv").write_text("source\npatient\n")
    arguments = ("/app/data/input_data/manifest.csv", "/app/data/output_data", "--weights", "mini")
    ended = container.run("fmcib", "batch", *arguments, source=source, output=output)
    assert ended.returncode == 0, ended.stderr
    shutil.rmtree(output / "_batch")
    _check_equal(output, source, tmp_path / "expected")


@needs_shared
def test_a_real_scan_with_contours_gives_what_it_gives_outside(
    container: Container, output: Path, tmp_path: Path
) -> None:
    source = DATA / "ct-rtstruct-4dlung-113"
    ended = container.run("--workflow", "from_rtstruct", source=source, output=output)
    assert ended.returncode == 0, ended.stderr
    _check_equal(output, source, tmp_path / "expected", seed_sources=["RTSTRUCT"])


@needs_shared
def test_a_real_segmentation_gives_what_it_gives_outside(container: Container, output: Path, tmp_path: Path) -> None:
    source = tmp_path / "input"
    shutil.copytree(DATA / "ct-seg-sr-dcmqi" / "ct-3slice", source / "ct")
    for name in ("liver.dcm", "partial_overlaps.dcm"):
        shutil.copy(DATA / "ct-seg-sr-dcmqi" / name, source)
    ended = container.run(source=source, output=output)
    assert ended.returncode in (0, 3), ended.stderr
    assert pd.read_parquet(output / "features.parquet")["Mhub ROI"].size > 0
    _check_equal(output, source, tmp_path / "expected")


def test_only_the_data_and_the_cache_are_writable(container: Container) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", container.user)
    program = ("find", "/", "-xdev", "-type", "d", "-writable")
    found = set(container.run(program=program).stdout.split())
    folders = {"/app/cache", "/app/data", *(f"/app/data/{name}" for name in ("input_data", "output_data"))}
    assert folders <= found
    rest = {path for path in found if not path.startswith(("/app/cache/", "/proc", "/dev", "/run", "/sys"))}
    assert rest - folders <= {"/tmp", "/var/tmp"}  # Debian's own


def test_it_runs_without_capabilities_on_a_read_only_root(container: Container, output: Path, tmp_path: Path) -> None:
    source = _phantom(tmp_path / "input")
    locked = container.run_locked("cat", "/proc/self/status", source=source, output=output).stdout
    assert re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(\w+)$", locked, re.MULTILINE) == ["0" * 16] * 3
    assert "NoNewPrivs:\t1" in locked
    refused = container.run_locked("touch", "/app/cache/x", source=source, output=output)
    assert "Read-only file system" in refused.stderr
    ended = container.run_locked(*container.entrypoint, *container.default, source=source, output=output)
    assert ended.returncode == 0, ended.stderr
    _check_equal(output, source, tmp_path / "expected")


def test_nothing_of_this_machine_was_copied_in(container: Container) -> None:
    for name in ("etc/pip.conf", CERTIFICATES.lstrip("/")):
        mount_point = container.root / name  # buildah leaves it behind, empty
        assert not mount_point.exists() or mount_point.stat().st_size == 0


def test_the_bill_of_its_debian_part_is_what_dpkg_in_it_says(container: Container) -> None:
    listed = container.run("-W", "-f", "${Package} ${Version}\n", program=["dpkg-query"]).stdout.splitlines()
    components = bill_of(container.root, "fmcib").components
    assert sorted(f"{component.name} {component.version}" for component in components) == sorted(listed)


def test_the_labels_say_what_it_is(container: Container) -> None:
    labels = container.labels
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert labels["fmcib.weights"] == "mini"


def test_it_is_small_over_its_base(container: Container) -> None:
    with start(BASE) as base:
        over_base = _megabytes(container.root) - _megabytes(base.root)
    site = next((container.root / "opt/fmcib/lib").glob("python3*")) / "site-packages"
    torch = sum(_megabytes(folder) for folder in site.iterdir() if folder.name.split("-")[0].split("_")[0] in TORCH)
    sys.stdout.write(f"\nimage: {over_base:.0f} MB over its base, of which torch's own libraries {torch:.0f} MB\n")
    assert over_base - torch <= MAX_MB_OVER_BASE[container.labels["fmcib.batch"]]


def _megabytes(folder: Path) -> float:
    command = ["du", "-s", "--apparent-size", "-B", "1", "-x", str(folder)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]) / 1e6
