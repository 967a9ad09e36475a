"""The predictions table: what a method says of every lesion; written by probe and finetune, read by evaluate."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.errors import InputError
from training.evaluation.metrics import ClassScores, Floats, RiskScores

KEYS: Final = ("lesion", "patient", "split")
RUN: Final = ("method", "share", "seed")
PREFIX: Final = "p_"
RISK: Final = "risk"
OUTCOMES: Final = ("label", "time", "event")

_FIX: Final = "give a predictions.csv of `python -m training probe` or `finetune`"


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The predictions of one fit.

    Attributes:
        method: "fmcib + logistic regression", ...
        share: Of the training data that it was fitted on, 0..1.
        seed: Of its training subset, or of its training.
        frame: One row per lesion, sorted by lesion, index 0..n-1.
        classes: In the order of the columns p_<class>; empty where it predicts a risk.
        risk_class: Whose probability is the risk of the event; "" for the second of two classes.
    """

    method: str
    share: float
    seed: int
    frame: pd.DataFrame
    classes: tuple[str, ...]
    risk_class: str = ""

    def split(self, name: str) -> "Run":
        """Its lesions of one split."""
        return self._of(self.frame["split"] == name)

    @property
    def probabilities(self) -> Floats:
        """(n, k) of the classes."""
        return self.frame[[PREFIX + name for name in self.classes]].to_numpy(dtype=np.float64)

    @property
    def risk(self) -> Floats:
        """(n,) risk of the event: its own column, or the probability of `risk_class`."""
        if RISK in self.frame:
            return self.frame[RISK].to_numpy(dtype=np.float64)
        return self.probabilities[:, self.classes.index(self.risk_class) if self.risk_class else 1]

    @property
    def has_outcomes(self) -> bool:
        """Whether time and event are known of any lesion, and there is a risk to compare them with."""
        ranked = RISK in self.frame or len(self.classes) == 2
        return ranked and "time" in self.frame and bool(self.frame[["time", "event"]].notna().all(axis=1).any())

    def class_scores(self) -> ClassScores:
        """As the class metrics take them; of `labelled` lesions."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        truth = np.array([numbers[label] for label in self.frame["label"]], dtype=np.int64)
        return ClassScores(truth, self.probabilities)

    def labelled(self) -> "Run":
        """Its lesions whose label is known."""
        return self._of(self.frame["label"].notna())

    def with_outcomes(self) -> "Run":
        """Its lesions whose time and event are known."""
        return self._of(self.frame[["time", "event"]].notna().all(axis=1))

    def risk_scores(self) -> RiskScores:
        """As the survival metrics take them; of lesions `with_outcomes`."""
        time, event = (self.frame[name].to_numpy(dtype=np.float64) for name in ("time", "event"))
        return RiskScores(time, event == 1, self.risk)

    def _of(self, rows: "pd.Series[bool]") -> "Run":
        frame = self.frame[rows].reset_index(drop=True)
        return Run(self.method, self.share, self.seed, frame, self.classes, self.risk_class)


def prediction_rows(
    frame: pd.DataFrame, scores: Floats, classes: Sequence[str], *, method: str, share: float, seed: int
) -> pd.DataFrame:
    """Rows of a predictions table.

    Args:
        frame: Lesions, as in a feature table: lesion, patient, split and what is known of label, time and event.
        scores: (n, k) probabilities of the classes, or (n, 1) risks.
        classes: Empty for risks.
        method: As in `Run`.
        share: Likewise.
        seed: Likewise.
    """
    known = [name for name in OUTCOMES if name in frame and (name != "label" or classes)]
    columns = [PREFIX + name for name in classes] or [RISK]
    rows = frame[[*KEYS, *known]].reset_index(drop=True).assign(method=method, share=share, seed=seed)
    rows = rows.join(pd.DataFrame(scores, columns=columns))
    return rows[[*KEYS, *known[: known.count("label")], *RUN, *(n for n in known if n != "label"), *columns]]


def write_predictions(path: Path, parts: Iterable[pd.DataFrame]) -> None:
    """Write a predictions table of such rows, atomically.

    Raises:
        OutputError: It cannot be written.
    """
    with replacing(path) as temporary:
        pd.concat(list(parts), ignore_index=True).to_csv(temporary, index=False)


def read_predictions(paths: Sequence[Path], *, risk_class: str = "") -> list[Run]:
    """The fits of some predictions tables, in their order.

    Args:
        paths: The tables.
        risk_class: As in `Run`; tables of risks do not need it.

    Raises:
        InputError: A table cannot be read, lacks a column, or has a lesion twice in a fit, a label that is no class or
            a prediction that is no number.
    """
    return [run for path in paths for run in _runs(path, risk_class)]


def _runs(path: Path, risk_class: str) -> Iterator[Run]:
    text: dict[str, Any] = dict.fromkeys((*KEYS, "label", "method"), str)
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise InputError(f"the predictions cannot be read: {reason}", path.name, _FIX) from error
    classes = [name.removeprefix(PREFIX) for name in map(str, table) if name.startswith(PREFIX)]
    missing = [name for name in (*KEYS, *RUN) if name not in table]
    missing += [] if RISK in table or len(classes) > 1 else [f"{RISK} or {PREFIX}<class>"]
    missing += ["label"] if classes and "label" not in table else []
    if missing:
        raise InputError(f"column(s) {', '.join(missing)} are missing", path.name, _FIX)
    if classes and risk_class and risk_class not in classes:
        raise InputError(f"risk_class {risk_class!r} is none of {', '.join(classes)}", path.name, "name a class")
    for _, rows in table.groupby(list(RUN), sort=False):
        frame = rows.sort_values("lesion", kind="stable").reset_index(drop=True)
        first = frame.iloc[0]
        run = Run(str(first["method"]), float(first["share"]), int(first["seed"]), frame, tuple(classes), risk_class)
        _check(run, f"{path.name}, {run.method}, share {run.share}, seed {run.seed}")
        yield run


def _check(run: Run, where: str) -> None:
    twice = run.frame["lesion"][run.frame["lesion"].duplicated()]
    if len(twice):
        raise InputError(f"lesion {twice.iloc[0]} is there twice", where, _FIX)
    scores = run.probabilities if run.classes else run.risk
    if not np.isfinite(scores).all():
        raise InputError("a prediction is no number", where, _FIX)
    strange = set(run.frame["label"].dropna()) - set(run.classes) if run.classes else set()
    if strange:
        fix = "give a column p_<class> for every class"
        raise InputError(f"label {sorted(strange)[0]!r} is none of the predicted classes", where, fix)
