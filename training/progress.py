"""What a run shows and writes while it goes: a bar with the time left, and a CSV table that a restart continues."""

import csv
import logging
import time
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fmcib_module.adapters.atomic import replacing
from training.module import PretrainModule

log = logging.getLogger(__name__)

COLUMNS: Final = (
    "step", "epoch", "loss", "learning_rate", "alignment", "uniformity", "effective_rank", "knn_balanced_accuracy",
    "steps_per_second",
)  # fmt: skip
"""Of metrics.csv; a cell is empty where a number was not computed."""


class ProgressBar(Callback):
    """Steps done and time left of the whole run: a bar on a terminal, else a line of the log now and then."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)
        self._on_terminal = console.is_terminal
        self._start = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the run stands."""
        self._start, self._first_step = time.monotonic(), trainer.global_step
        if self._on_terminal and trainer.is_global_zero:
            self._bar.start()
            self._bar.add_task("pretrain", total=_last_step(trainer, pl_module), completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the bar, or write a line."""
        if not trainer.is_global_zero:
            return
        done, total = trainer.global_step, _last_step(trainer, pl_module)
        loss = trainer.callback_metrics.get("loss")
        text = f"epoch {trainer.current_epoch + 1}" + ("" if loss is None else f" loss {float(loss):.4f}")
        if self._on_terminal:
            self._bar.update(self._bar.task_ids[0], completed=done, description=text)
        elif isinstance(pl_module, PretrainModule) and done % pl_module.settings.trainer.log_steps == 0:
            speed = max(1, done - self._first_step) / (time.monotonic() - self._start)
            log.info("%s, step %d of %d, %.0f s left", text, done, total, (total - done) / speed)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the terminal as it was, also after an error."""
        self._bar.stop()


class CsvLog(Callback):
    """Appends to metrics.csv; a resumed run first drops the lines beyond the step that it resumes from."""

    def __init__(self, path: Path, log_steps: int) -> None:
        self._path = path
        self._every = log_steps
        self._time_and_step = (0.0, 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut the table to the steps that are done, or begin one."""
        if not trainer.is_global_zero:
            return
        self._time_and_step = (time.monotonic(), trainer.global_step)
        kept: list[dict[str, str]] = []
        if self._path.exists():
            with self._path.open(encoding="utf-8", newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.global_step]
        with replacing(self._path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Write a line every few steps."""
        step, accumulate = trainer.global_step, trainer.accumulate_grad_batches
        if trainer.is_global_zero and step % self._every == 0 and (batch_idx + 1) % accumulate == 0:
            now = time.monotonic()
            seconds, steps = now - self._time_and_step[0], step - self._time_and_step[1]
            self._time_and_step = (now, step)
            self._append(trainer, {"steps_per_second": f"{steps / seconds:.4g}"})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a line with the numbers that an epoch ends with."""
        if trainer.is_global_zero:
            self._append(trainer, {})

    def _append(self, trainer: Trainer, extra: dict[str, Any]) -> None:
        numbers = {key: f"{float(value):.6g}" for key, value in trainer.callback_metrics.items() if key in COLUMNS}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {**numbers, "step": trainer.global_step, "epoch": trainer.current_epoch, "learning_rate": f"{rate:.6g}"}
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({**row, **extra})


def _last_step(trainer: Trainer, pl_module: LightningModule) -> int:
    total = pl_module.total_steps if isinstance(pl_module, PretrainModule) else trainer.global_step
    return total if trainer.max_steps == -1 else min(total, trainer.max_steps)
