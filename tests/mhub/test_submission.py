"""The folder for MHub's models repository keeps the rules of its checks.

Source of the rules: github.com/MHubAI/models, .github/scripts/utils.py (validateModelFolder, validateDockerfile,
validateModelTestData), restated here.
"""

import filecmp
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests.mhub.chain import ROOT, WORKFLOWS
from tests.mhub.samples import SAMPLES, write_test_data

DOCKERFILE = ROOT / "mhub" / "dockerfiles" / "Dockerfile"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    subprocess.run([ROOT / "mhub" / "submission.sh", folder], check=True)
    return folder / "models" / "fmcib"


def test_the_folder_holds_what_mhub_looks_for(model: Path) -> None:
    for name in ("dockerfiles/Dockerfile", "config/default.yml", "meta.json", "mhub.toml", "mhub.run"):
        assert (model / name).is_file(), name
    assert (model / "mhub.run").stat().st_mode & 0o111
    assert {path.name for path in (model / "config").iterdir()} == {path.name for path in WORKFLOWS.glob("*.yml")}
    assert not list(model.rglob("__pycache__"))


def test_the_folder_holds_the_library_and_its_lock(model: Path) -> None:
    library = ROOT / "fmcib_module"
    names = [str(path.relative_to(library)) for path in library.rglob("*") if path.is_file()]
    names = [name for name in names if "__pycache__" not in name]
    _, mismatch, errors = filecmp.cmpfiles(library, model / "src" / "fmcib_module", names, shallow=False)
    assert not mismatch
    assert not errors
    lock = Path("requirements/runtime.lock")
    assert (model / "src" / lock).read_bytes() == (ROOT / lock).read_bytes()


def test_the_dockerfile_keeps_mhub_s_rules() -> None:
    lines = [line for line in DOCKERFILE.read_text().split("\n") if line.strip()]
    assert lines[0] == "FROM mhubai/base:latest"
    assert not [line for line in lines[1:] if line.startswith(("WORKDIR", "ADD", "COPY", "FROM"))]
    assert "ARG MHUB_MODELS_REPO" in lines
    assert "RUN buildutils/import_mhub_model.sh fmcib ${MHUB_MODELS_REPO}" in lines
    assert lines[-2:] == ['ENTRYPOINT ["mhub.run"]', 'CMD ["--workflow", "default"]']


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_lies_under_the_names_that_its_workflow_gives(name: str, tmp_path: Path) -> None:
    SAMPLES[name](tmp_path / "sample")
    named = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())["sample"]["input"]
    uid = "1.2.826.0.1.3680043.8.498.1"
    for path in named:
        if path.startswith(uid):  # an example UID: the phantom has its own
            assert len(list((tmp_path / "sample").glob("[0-9.]*.json"))) == 1
        else:
            assert (tmp_path / "sample" / path).exists(), path


def test_the_test_data_is_an_archive_with_a_sample_and_a_reference(tmp_path: Path) -> None:
    archive = write_test_data(tmp_path, weights="mini", names=["from_json"])
    names = ZipFile(archive).namelist()
    assert {"from_json/", "from_json/sample/", "from_json/reference/"} <= set(names)
    assert "from_json/reference/run_status.json" in names
    assert any(name.startswith("from_json/sample/CT/") for name in names)
