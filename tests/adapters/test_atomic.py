from pathlib import Path

import pytest

from fmcib_module.adapters.atomic import PendingFile, replacing, write_bytes
from fmcib_module.core.errors import OutputError


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("half")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    write_bytes(target, b"old")
    with pytest.raises(TypeError), replacing(target) as temporary:
        temporary.write_bytes(["not bytes"])  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_written_is_named_without_the_path_that_leads_there(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(OutputError, match=r"cannot be written.*\[taken/file.txt\]") as caught:
        write_bytes(tmp_path / "taken" / "file.txt", b"")
    assert str(tmp_path) not in str(caught.value)


def test_a_pending_file_that_was_never_written_can_be_discarded(tmp_path: Path) -> None:
    PendingFile(tmp_path / "file.txt").discard()
    assert list(tmp_path.iterdir()) == []
