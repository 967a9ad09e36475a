"""Again, after a pause, for what an object store refuses now and may give in a moment."""

import errno
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Final, TypeVar

from fmcib_module.core.errors import FmcibError

log = logging.getLogger(__name__)

T = TypeVar("T")

DELAYS_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits between attempts, each shortened or lengthened by up to a half so that workers do not come back together."""

_PERMANENT: Final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_LIBRARY_ERRORS: Final = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
)
_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class DamagedError(OSError):
    """What arrived is not what the store holds."""


class StoreError(FmcibError):
    """An object store refused for good, or for as long as we asked."""


def retried(action: Callable[[], T], name: str, *, delays_s: Sequence[float] = DELAYS_S) -> T:
    """Do something until it works; one attempt more than there are delays.

    Args:
        action: Reads or writes one object.
        name: Which one, for messages; without its bucket's address.
        delays_s: Seconds between attempts.

    Raises:
        StoreError: It is absent or forbidden, or the attempts are used up.
    """
    for delay_s in (*delays_s, None):
        try:
            return action()
        except _PERMANENT as error:
            raise StoreError(
                f"{_words(error)}", name, "check the location and the credentials (public buckets: --anonymous)"
            ) from error
        except transient_errors() as error:
            if delay_s is None or getattr(error, "errno", None) in _DISK:
                what = f"failed {len(delays_s) + 1} times, at last: {_words(error)}"
                raise StoreError(what, name, "run the same command again, it goes on where it stopped") from error
            log.info("%s: %s; trying again", name, _words(error))
            time.sleep(delay_s * random.uniform(0.5, 1.5))
    raise AssertionError


@cache
def transient_errors() -> tuple[type[Exception], ...]:
    """What the installed object stores' libraries raise when a connection or a server fails."""
    found: list[type[Exception]] = [OSError, EOFError]
    for module, name in _LIBRARY_ERRORS:
        with suppress(ImportError):
            found.append(getattr(import_module(module), name))
    return tuple(found)


def _words(error: Exception) -> str:
    """Say what happened without the address that some libraries put into their messages."""
    if isinstance(error, DamagedError):
        return str(error)
    reason = getattr(error, "strerror", None)
    return f"{type(error).__name__}{f' ({reason})' if isinstance(reason, str) and '/' not in reason else ''}"
