"""run_status.json -> Ledger."""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fmcib_module.core.errors import OutputError
from fmcib_module.core.ledger import LEDGER_NAME, LEDGER_SCHEMA, Ledger
from fmcib_module.core.naming import is_safe_file, is_safe_name

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORCE: Final = "choose another folder, or use --force to replace them"
"""What to do about results that stand in the way."""


def read_ledger(folder: Path) -> Ledger | None:
    """The ledger of an output folder, None if there is none.

    Raises:
        OutputError: There is one that cannot be read.
    """
    try:
        return parse_ledger((folder / LEDGER_NAME).read_bytes(), LEDGER_NAME)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_readable(error, LEDGER_NAME) from error


def parse_ledger(content: bytes, name: str) -> Ledger:
    """The ledger that a file holds.

    Args:
        content: JSON.
        name: The file's, for messages.

    Raises:
        OutputError: It is none of ours, is damaged, or names files that could lie outside OUTPUT.
    """
    try:
        raw = json.loads(content)
        if raw["schema"] != LEDGER_SCHEMA:
            raise OutputError(f"ledger has schema {raw['schema']!r}", name, f"this version reads {LEDGER_SCHEMA}")
        ledger = _adapter().validate_python(
            {key: raw[key] for key in ("run", "series", "problems", "ignored_files", "complete")}
        )
        written = [entry for entry in ledger.series if entry.output]
        unsafe = [entry.output for entry in written if not is_safe_name(entry.output)]
        unsafe += [name for entry in written for name in entry.files if not is_safe_file(name)]
        if unsafe:
            raise OutputError(f"ledger names {unsafe[0]!r}, which is no file of ours", name, FORCE)
        return ledger
    except (ValueError, KeyError, TypeError) as error:  # pydantic's own error is a ValueError
        raise _not_readable(error, name) from error


@cache
def _adapter() -> "TypeAdapter[Ledger]":
    """Made once, and only where there is a ledger to read: a first run starts without pydantic."""
    from pydantic import TypeAdapter

    return TypeAdapter(Ledger)


def _not_readable(error: Exception, name: str) -> OutputError:
    reason = type(error).__name__
    return OutputError(f"ledger cannot be read ({reason})", name, "choose another folder, or use --force")
