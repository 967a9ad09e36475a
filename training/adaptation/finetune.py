"""`python -m training finetune FILE`: train a network and a head on a lesion table, all layers, and predict.

RUN/predictions.csv           of every share and seed
RUN/<all | N-percent.seed-S>/ settings.yml, run.json, metrics.csv, last.ckpt, best.torch, best.json, predictions.csv

The same command goes on after a kill; finished shares and seeds are kept.
"""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from numpy.typing import NDArray

from fmcib_module import __version__
from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.checkpoint import load_weights
from fmcib_module.adapters.extractor_networks import network_from_tensors, new_network
from fmcib_module.adapters.extractors import ExtractorChoice, choose_extractor
from fmcib_module.core.errors import ConfigError, OutputError
from fmcib_module.core.extractors import CARDS, InputForm
from fmcib_module.settings import from_plain, read_yaml, to_plain
from training.adaptation.finetune_data import Cohort, FinetuneSource, read_cohort
from training.adaptation.finetune_module import BEST, FinetuneModule, TuningWatch, predict_logits
from training.adaptation.finetune_settings import FinetuneSettings, ModelSettings, Start, Task
from training.adaptation.finetuned import FineTuned, make_head, n_features, probabilities, read_finetuned
from training.adaptation.lesions import CropReader, Lesions, open_lesions
from training.bars import Bar
from training.checkpoints import LAST, AtomicCheckpointIO
from training.evaluation.predictions import prediction_rows, write_predictions
from training.run_folder import environment
from training.settings import Accelerator

log = logging.getLogger(__name__)

PREDICTIONS: Final = "predictions.csv"
DONE: Final = "best.json"


def finetune(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        WeightsError: Weights are absent or do not fit.
        InputError: The lesions cannot be used.
        OutputError: The folder holds another fine-tuning, or cannot be written.
    """
    run_finetune(from_plain(FinetuneSettings, read_yaml(settings_path), where=settings_path.name))


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One training: its data and where it goes.

    Attributes:
        settings: Of the whole run.
        cohort: Lesions and classes.
        read: Reads a lesion's cube with its margin.
        form: What the network takes.
        share: Of the training data.
        seed: Of subset and training.
    """

    settings: FinetuneSettings
    cohort: Cohort
    read: CropReader
    form: InputForm
    share: float
    seed: int

    @property
    def folder(self) -> Path:
        """In RUN."""
        name = "all" if self.share == 1 else f"{100 * self.share:g}-percent.seed-{self.seed}"
        return Path(self.settings.run) / name


def run_finetune(settings: FinetuneSettings) -> Path:
    """Train what is not trained yet, and predict.

    Returns:
        RUN/predictions.csv.

    Raises:
        ConfigError, WeightsError, InputError, OutputError: As `finetune`.
    """
    model, form = settings.model, _form(settings.model.extractor)
    lesions = open_lesions(settings.data)
    cohort = read_cohort(lesions, settings)
    read = lesions.crop_reader(_wanted_rows(cohort, settings), form.edge + 2 * settings.augment.translation)
    cohort = _readable(cohort, lesions)
    if model.finetuned:
        job = Job(settings, cohort, read, form, 1.0, settings.seeds[0])
        finished = read_finetuned(Path(model.finetuned), model.extractor)
        _check_outputs(finished, cohort, model.finetuned)
        parts = [_predict(job, finished)]
    else:
        jobs = [Job(settings, cohort, read, form, share, seed) for share, seed in settings.fits]
        parts = [_fit(job, lesions.table_sha256) for job in jobs]
    path = Path(settings.run) / PREDICTIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, parts)
    return path


def _fit(job: Job, table_sha256: str) -> pd.DataFrame:
    _claim(job, table_sha256)
    if not (job.folder / DONE).exists():
        _train(job)
    rows = _predict(job, read_finetuned(job.folder / BEST, job.settings.model.extractor))
    write_predictions(job.folder / PREDICTIONS, [rows])
    return rows


def _train(job: Job) -> None:
    options, cohort, last = job.settings.trainer, job.cohort, job.folder / LAST
    if options.threads:
        torch.set_num_threads(options.threads)
    seed_everything(job.seed, verbose=False)
    rows = cohort.training_rows(job.share, job.seed)
    source = FinetuneSource(rows, job.read, options.batch_size, job.seed)
    model = _new_model(job.settings.model, len(cohort.classes))
    module = FinetuneModule(model, job.settings, job.form, cohort.labels, source, job.seed)
    with Bar(f"finetune {job.folder.name}") as bar:
        watch = TuningWatch(job.folder, job.settings, job.form, cohort, job.read, bar)
        trainer = Trainer(
            accelerator="gpu" if options.accelerator is Accelerator.CUDA else options.accelerator.value,
            devices=1,
            max_epochs=options.epochs,
            callbacks=[watch],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    record = {
        "epoch": watch.best_epoch,
        "epochs": trainer.current_epoch,
        "score": watch.best,
        "lesions": len(rows),
        "patients": len(set(cohort.frame["patient"].iloc[rows])),
        "classes": list(cohort.classes),
        "shared_patients": cohort.shared,
    }
    write_bytes(job.folder / DONE, (json.dumps(record, indent=1) + "\n").encode())
    last.unlink()  # as large as the optimiser's state and the weights; the best model stays
    log.info("%s: best at epoch %d of %d", job.folder.name, watch.best_epoch, trainer.current_epoch)


def _new_model(model: ModelSettings, n_classes: int) -> FineTuned:
    if model.start is Start.RANDOM:
        trunk = new_network(model.extractor, width=model.width)
    else:
        info, tensors = load_weights(_choice(model).weights)
        trunk = network_from_tensors(model.extractor, tensors, info.name).train()
    outputs = 1 if n_classes == 2 else n_classes
    return FineTuned(trunk, make_head((n_features(trunk), *model.hidden, outputs)))


def _choice(model: ModelSettings) -> ExtractorChoice:
    return choose_extractor(f"{model.extractor}={model.weights}" if model.weights else model.extractor)


def _predict(job: Job, model: FineTuned) -> pd.DataFrame:
    """Rows of the predictions table."""
    settings, rows = job.settings, _predicted_rows(job.cohort, job.settings)
    model = model.to(_device(settings))
    logits = predict_logits(model, rows, job.read, job.form, batch_size=settings.trainer.batch_size)
    scores = probabilities(logits).double().numpy()
    survival = settings.task is Task.SURVIVAL
    return prediction_rows(
        job.cohort.frame.iloc[rows],
        scores[:, 1:] if survival else scores,
        () if survival else job.cohort.classes,
        method=settings.method_name,
        share=job.share,
        seed=job.seed,
    )


def _predicted_rows(cohort: Cohort, settings: FinetuneSettings) -> NDArray[np.int64]:
    """Lesions of the wanted splits; of classes those that have one, since predictions are compared with it."""
    inside = cohort.frame["split"].isin(settings.predict).to_numpy()
    return np.flatnonzero(inside & ((cohort.labels >= 0) | (settings.task is Task.SURVIVAL)))


def _wanted_rows(cohort: Cohort, settings: FinetuneSettings) -> list[int]:
    """Every lesion that is learned from, watched or predicted."""
    wanted = {*cohort.rows("train").tolist(), *cohort.rows("val").tolist(), *_predicted_rows(cohort, settings).tolist()}
    return sorted(wanted)


def _readable(cohort: Cohort, lesions: Lesions) -> Cohort:
    """Without the lesions that cannot be cut, each of which is named."""
    for what, reason in lesions.failures:
        log.warning("%s: %s", what, reason)
    lost = {what.removeprefix("lesion ") for what, _ in lesions.failures}
    kept = ~cohort.frame["lesion"].isin(lost).to_numpy()
    split = cohort.frame["split"].where(kept, "")  # of no split: neither learned from nor predicted
    return replace(cohort, frame=cohort.frame.assign(split=split))


def _claim(job: Job, table_sha256: str) -> None:
    """Record what the training is made of, or check that it is the one that the folder holds.

    Raises:
        OutputError: The folder holds another one.
    """
    settings, model, record = job.settings, job.settings.model, job.folder / "run.json"
    identity: dict[str, Any] = {
        "recipe_digest": settings.recipe_digest(),
        "table_sha256": table_sha256,
        "weights_sha256": _choice(model).weights_sha256 if model.start is Start.PRETRAINED else "",
        "share": job.share,
        "seed": job.seed,
    }
    if record.exists():
        found = json.loads(record.read_text(encoding="utf-8"))
        if changed := [key for key, value in identity.items() if found.get(key) != value]:
            what = f"the folder holds a training of another {', '.join(changed)}"
            raise OutputError(what, job.folder.name, "give another `run` folder")
        return
    write_bytes(job.folder / "settings.yml", yaml.safe_dump(to_plain(settings), sort_keys=False).encode())
    about = {**identity, "version": __version__, **environment()}
    write_bytes(record, (json.dumps(about, indent=1) + "\n").encode())


def _check_outputs(model: FineTuned, cohort: Cohort, where: str) -> None:
    with torch.no_grad():
        n_outputs = model.heads(torch.zeros(1, n_features(model.trunk))).shape[1]
    if n_outputs != len(cohort.classes) and (n_outputs, len(cohort.classes)) != (1, 2):
        what = f"the model has {n_outputs} output(s), the table {len(cohort.classes)} classes"
        raise ConfigError(what, Path(where).name, "give the table of the model's task")


def _form(extractor: str) -> InputForm:
    card = next((card for card in CARDS if card.name == extractor and not card.form.needs_mask), None)
    if card is None:
        known = ", ".join(card.name for card in CARDS if not card.form.needs_mask)
        raise ConfigError(f"there is no network {extractor!r}", "model: extractor", f"use one of: {known}")
    return card.form


def _device(settings: FinetuneSettings) -> torch.device:
    cpu = settings.trainer.accelerator is Accelerator.CPU or not torch.cuda.is_available()
    return torch.device("cpu" if cpu else "cuda")
