"""The house plan holds: import arrows, file sizes, public names, docstrings, nothing of one machine in the tree."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fmcib_module

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fmcib_module"
CODE_FOLDERS = ("fmcib_module", "mhub", "training", "tests", "benchmarks")
MODULES = sorted(PACKAGE.rglob("*.py"))
ALL_CODE = sorted(path for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*.py"))

# Files in PACKAGE that may import torch: the network, what loads its weights, what runs it.
TORCH_FILES = {"resnet.py", "runner.py", "checkpoint.py", "engine_torch.py"}
# The networks to compare with, and what fills them.
TORCH_FILES |= {"extractor_networks.py", "models_genesis.py", "ct_fm.py", "strict_loading.py"}
ADAPTERS_MAY_IMPORT = ("core", "adapters", "settings", "weights")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)}: relative import"
            yield f"{node.module}"
            if node.module == "fmcib_module":
                yield from (f"fmcib_module.{alias.name}" for alias in node.names)


def _tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=_name)
def test_core_imports_only_the_standard_library_numpy_and_itself(path: Path) -> None:
    outside_world = {"os", "io", "shutil", "socket", "subprocess", "tempfile", "time", "urllib", "logging", "random"}
    for module in _imports(path):
        top = module.split(".")[0]
        own = module.startswith("fmcib_module.core")
        assert own or top == "numpy" or (top in sys.stdlib_module_names and top not in outside_world), module


@pytest.mark.parametrize("path", sorted((PACKAGE / "adapters").rglob("*.py")), ids=_name)
def test_adapters_import_only_core_settings_and_each_other(path: Path) -> None:
    for module in _imports(path):
        if module.startswith("fmcib_module."):
            assert module.split(".")[1] in ADAPTERS_MAY_IMPORT, module


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_the_library_knows_nothing_of_its_callers(path: Path) -> None:
    tops = {module.split(".")[0] for module in _imports(path)}
    assert not tops & {"mhubio", "mhub", "training", "tests"}
    if path.name != "cli.py" and not path.name.startswith("cli_"):
        assert not {m for m in _imports(path) if m.startswith("fmcib_module.cli")}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_torch_stays_with_the_network(path: Path) -> None:
    uses_torch = any(module.split(".")[0] in {"torch", "monai"} for module in _imports(path))
    assert not uses_torch or path.name in TORCH_FILES


@pytest.mark.parametrize("path", ALL_CODE, ids=_name)
def test_files_stay_under_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_public_function_and_class_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "module"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    scopes: list[ast.Module | ast.ClassDef] = [tree, *classes]
    for scope in scopes:
        for node in scope.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), node.name


def test_public_names_are_sorted_complete_and_importable() -> None:
    names = fmcib_module.__all__
    assert names == sorted(names)
    assert all(getattr(fmcib_module, name) is not None for name in names)
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {a.name for block in guarded for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert imported == set(names), "what type checkers see is what __all__ lists"


@pytest.mark.parametrize("heavy", ["torch", "monai", "highdicom", "SimpleITK", "pandas", "matplotlib"])
def test_importing_the_package_stays_light(heavy: str) -> None:
    code = f"import sys, fmcib_module; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_command_line_starts_without_the_network() -> None:
    code = "import sys, fmcib_module.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_tree_names_no_machine_and_no_registry() -> None:
    # Roots of a Linux system or of our image are fine; anything else is someone's machine.
    system = {"usr", "bin", "opt", "etc", "dev", "proc", "run", "sys", "tmp", "var"}
    ours = {"app", "input", "output", "models", "weights", "path", *system}
    path_like = re.compile(r"""(?:^|[\s"'(=])/([a-z][\w.-]*)/[\w.-]+""", re.MULTILINE)
    registries = re.compile("|".join((r"pypi\.(?:org|python)", r"python" + "hosted", r"debian\.org", "npm" + "js")))
    for path in _tracked_files():
        if path.suffix in {".safetensors", ".npz", ".png", ".lock"}:
            continue
        text = path.read_text(encoding="utf-8")
        foreign = {root for root in path_like.findall(text) if root not in ours}
        assert not foreign, f"{_name(path)}: /{foreign}"
        assert path == Path(__file__) or not registries.search(text), _name(path)


def test_no_large_file_is_tracked_but_the_packaged_weights() -> None:
    large = [_name(p) for p in _tracked_files() if p.stat().st_size > 1_000_000 and p.suffix != ".safetensors"]
    assert large == []
