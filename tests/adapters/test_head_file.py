"""Heads on disk: read back exactly, readable without us, and refused where anything was changed."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fmcib_module.adapters.head_file import read_head, write_head
from fmcib_module.core.errors import ConfigError
from tests.core.test_heads import logistic


def test_a_head_is_read_back_exactly(tmp_path: Path) -> None:
    written = write_head(tmp_path / "head.json", logistic())
    again = read_head(tmp_path / "head.json")
    for name in logistic().__dataclass_fields__:
        found, expected = getattr(again, name), getattr(written, name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
        else:
            assert found == expected, name
    assert len(again.sha256) == 64


def test_the_files_are_plain_json_and_safetensors(tmp_path: Path) -> None:
    write_head(tmp_path / "head.json", logistic())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.json", "head.safetensors"]
    assert json.loads((tmp_path / "head.json").read_text())["classes"] == ["0", "1"]
    np.testing.assert_array_equal(load_file(tmp_path / "head.safetensors")["mean"], [1.0, 2.0])


def test_changed_numbers_are_refused(tmp_path: Path) -> None:
    write_head(tmp_path / "head.json", logistic())
    numbers = tmp_path / "head.safetensors"
    numbers.write_bytes(numbers.read_bytes()[:-1] + b"\0")
    with pytest.raises(ConfigError, match=r"not those it was saved with .head.safetensors"):
        read_head(tmp_path / "head.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "fmcib-head/9"}, "schema 'fmcib-head/9'"),
        ({"kind": "forest"}, "this is no head: ValueError"),
        ({"numbers": {"file": "../head.safetensors", "sha256": ""}}, "not those it was saved with"),
        ({"classes": ["only"]}, "does not fit together"),
    ],
)
def test_a_changed_head_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_head(tmp_path / "head.json", logistic())
    said = json.loads((tmp_path / "head.json").read_text()) | change
    (tmp_path / "head.json").write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=message):
        read_head(tmp_path / "head.json")


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"this is no head: FileNotFoundError .head.json"):
        read_head(tmp_path / "head.json")
    (tmp_path / "head.json").write_text("[]")
    with pytest.raises(ConfigError, match="this is no head"):
        read_head(tmp_path / "head.json")
