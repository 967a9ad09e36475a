"""Nothing unpickles, nothing evaluates text, every package is pinned by its hash."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(path for folder in ("fmcib_module", "mhub", "training") for path in (ROOT / folder).rglob("*.py"))
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))

UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
ERROR_NAMES = {"pickle.UnpicklingError"}
"""What a caught error is called; naming it runs nothing."""

EVALUATORS = {"eval", "exec", "compile", "__import__"}
SAFE_ARGUMENT = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
REFUSED_CALLS = {
    "pd.read_pickle",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "torch.package",
    "load_from_checkpoint",
}
SAFE_YAML = {"SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"}


def _problems(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            yield f"{node.lineno}: from {node.module}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node).split(".")[0] in UNPICKLERS:
            if ast.unparse(node) not in ERROR_NAMES:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            yield from _call_problems(node)


def _call_problems(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in EVALUATORS or "load_from_checkpoint" in name:
        yield f"{call.lineno}: {name}"
    elif name in REFUSED_CALLS:
        loader = options.get("Loader")
        if not (name == "yaml.load" and loader is not None and ast.unparse(loader).split(".")[-1] in SAFE_YAML):
            yield f"{call.lineno}: {name}"
    elif name in SAFE_ARGUMENT:
        argument, safe = SAFE_ARGUMENT[name]
        given = options.get(argument)
        default_is_safe = name != "torch.load" and given is None  # numpy refuses pickles unless told otherwise
        if not default_is_safe and not (isinstance(given, ast.Constant) and given.value is safe):
            yield f"{call.lineno}: {name} without {argument}={safe}"
    elif "shell" in options and not (isinstance(options["shell"], ast.Constant) and options["shell"].value is False):
        yield f"{call.lineno}: {name} with a shell"


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_unpickles_evaluates_text_or_asks_a_shell(path: Path) -> None:
    assert list(_problems(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "from joblib import load",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.load(text)",
        "import pandas as pd\npd.read_pickle(path)",
        "eval(text)",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "Model.load_from_checkpoint(path)",
    ],
)
def test_the_check_above_finds(source: str) -> None:
    assert list(_problems(source))


def _pins(lock: Path) -> dict[str, tuple[str, int]]:
    """Package -> version and number of hashes."""
    entries = re.findall(r"^([a-z0-9._-]+)==(\S+)((?:.*\\\n)*.*)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: (version, rest.count("--hash=sha256:")) for name, version, rest in entries}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_of_a_lock_is_pinned_by_a_hash(lock: Path) -> None:
    pins = _pins(lock)
    assert len(pins) > 50
    assert [name for name, (_, hashes) in pins.items() if hashes == 0] == []


@pytest.mark.parametrize("name", ["runtime.lock", "batch.lock"])
def test_what_is_shipped_is_what_is_tested(name: str) -> None:
    tested = _pins(ROOT / "requirements" / "dev.lock")
    shipped = _pins(ROOT / "requirements" / name)
    assert {package: pin for package, pin in shipped.items() if tested.get(package) != pin} == {}


@pytest.mark.slow
def test_the_bill_of_materials_names_every_package_of_the_lock(tmp_path: Path) -> None:
    lock, file = ROOT / "requirements" / "runtime.lock", tmp_path / "runtime.cdx.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock), "--of", "JSON", "-o", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    listed = {component["name"]: component["version"] for component in bill["components"]}
    assert listed == {name: version for name, (version, _) in _pins(lock).items()}
