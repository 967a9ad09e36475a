"""`python -m training evaluate FILE`: predictions tables -> metrics, tests, calibration, survival."""

import logging
from dataclasses import dataclass
from pathlib import Path

from fmcib_module import __version__
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain, read_yaml, to_plain
from training.evaluation.compare import compare_methods
from training.evaluation.estimates import Sides, draw_counts, draw_swaps
from training.evaluation.judge import judge_classes, judge_survival
from training.evaluation.methods import Judged, gather_methods
from training.evaluation.metrics import CLASS_METRICS, RISK_METRICS
from training.evaluation.predictions import read_predictions
from training.evaluation.results import Results
from training.run_folder import git_revision

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """One task.

    Attributes:
        name: In the results.
        predictions: Files of `probe` and `finetune`; every method has the same lesions.
        risk_class: The class whose probability is the risk of the event, for survival; "" for the second of two. Where
            the label says who is alive after two years, it is "0".
        metrics: Of balanced_accuracy, mean_average_precision, auc, c_index; empty takes all that there is data for.
        clinical: CSV with covariates, and `patient` or `lesion` to join by; empty for none.
        covariates: Its columns that go beside the risk group into a Cox regression.
    """

    name: str
    predictions: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    risk_class: str = ""
    clinical: str = ""
    covariates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if strange := set(self.metrics) - {*CLASS_METRICS, *RISK_METRICS}:
            fix = f"use some of {', '.join((*CLASS_METRICS, *RISK_METRICS))}"
            raise ConfigError(f"no such metric: {', '.join(sorted(strange))}", self.name, fix)
        if bool(self.clinical) != bool(self.covariates):
            raise ConfigError("clinical and covariates go together", self.name, "give both or neither")
        if not self.predictions:
            raise ConfigError("there are no predictions", self.name, "name the files of probe and finetune")


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """What is judged; the keys of the YAML file are exactly these fields, paths relative to where it is run.

    Attributes:
        tasks: One or more.
        output: Folder for results.json and the CSV files.
        split: Whose lesions are judged.
        tuning_split: Whose median risk divides them into two groups.
        n_resamples: Of the bootstrap.
        n_permutations: Of the tests between methods.
        sides: two-sided, or one-sided as in the published code.
        by_patient: Resample and exchange whole patients instead of lesions.
        seed: Of the draws.
    """

    tasks: tuple[TaskSettings, ...]
    output: str
    split: str = "test"
    tuning_split: str = "val"
    n_resamples: int = 1000
    n_permutations: int = 1000
    sides: Sides = Sides.TWO
    by_patient: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.tasks or self.n_resamples < 1 or self.n_permutations < 1:
            raise ConfigError("there is nothing to do", "evaluate", "give a task, resamples and permutations")
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise ConfigError("two tasks have the same name", "tasks", "name each once")


def evaluate(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        InputError: Predictions cannot be used, or methods do not have the same lesions.
        OutputError: The output cannot be written.
    """
    settings = from_plain(EvaluateSettings, read_yaml(settings_path), where=settings_path.name)
    results = run_evaluate(settings)
    results.write(Path(settings.output), settings=to_plain(settings), version=__version__, git_revision=git_revision())
    for row in results.rows["metrics"]:
        if not row["class"]:
            interval = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            log.info("%s, %s, share %g: %s %s", row["task"], row["method"], row["share"], row["metric"], interval)


def run_evaluate(settings: EvaluateSettings) -> Results:
    """Judge all tasks."""
    results = Results()
    for task in settings.tasks:
        runs = read_predictions([Path(path) for path in task.predictions], risk_class=task.risk_class)
        for judged in gather_methods(runs, settings.split, settings.tuning_split, task.name, task.metrics):
            _judge(judged, task, settings, results)
    return results


def _judge(judged: Judged, task: TaskSettings, settings: EvaluateSettings, results: Results) -> None:
    """All metrics of one kind (classes, or risks) of a task, on the same resamples and exchanges."""
    clusters = judged.patients if settings.by_patient else len(judged.patients)
    counts = draw_counts(clusters, n_resamples=settings.n_resamples, seed=settings.seed)
    swaps = draw_swaps(clusters, n_permutations=settings.n_permutations, seed=settings.seed)
    compare_methods(judged, counts, swaps, settings.sides, results)
    if judged.is_survival:
        judge_survival(judged, Path(task.clinical) if task.clinical else None, task.covariates, results)
    else:
        judge_classes(judged, counts, results)
