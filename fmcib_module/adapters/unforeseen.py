"""The last net: an exception that nobody foresaw costs one file, ROI or series, not the run."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fmcib_module.core.errors import FmcibError, UnforeseenError


@contextmanager
def unforeseen(where: str) -> Iterator[None]:
    """Turn any exception of the block that is not ours into an `UnforeseenError`.

    It names the exception's class and the place in our code, and not its text, which may hold what the file says of the
    patient. Errors of the system (a full disk, no memory) go through.

    Args:
        where: UID, ROI name or file name.

    Raises:
        UnforeseenError: In place of the exception.
    """
    try:
        yield
    except (FmcibError, OSError, MemoryError):
        raise
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{Path(__file__).parents[1]}" in f.filename]
        place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
        raise UnforeseenError(
            f"{type(error).__name__}{place}",
            where,
            "this is a fault of the software: report it with these words, and the object if it may be shared",
        ) from error
