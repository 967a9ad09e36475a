"""How far a verb is: a bar on a terminal, a line of the log now and then elsewhere."""

import logging
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

LINE_SECONDS: Final = 10.0
"""Between lines of the log."""


class Bar:
    """Shows (done, in all); a context manager."""

    def __init__(self, name: str) -> None:
        """Nothing is shown before the first `told`."""
        console = Console(stderr=True)
        self._name = name
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def told(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if not self._bar.disable:
            if not self._bar.task_ids:
                self._bar.add_task(self._name, total=total)
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif done == total or time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            log.info("%s: %d of %d", self._name, done, total)
