"""`python -m training reproduce FILE`: a whole study, stage after stage, and what came out beside what was expected."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fmcib_module import __version__
from fmcib_module.adapters.atomic import replacing, write_bytes
from fmcib_module.core.errors import ConfigError, FmcibError, InputError
from fmcib_module.settings import from_plain, read_yaml
from training.run_folder import git_revision
from training.study.expected import Judgement, Verdict, judge_expected, read_expected, verdict_table
from training.study.stages import Stage, check_order
from training.verbs import load_verb

log = logging.getLogger(__name__)

RECORD: Final = "reproduce.json"
VERDICTS: Final = "verdicts.csv"


class Outcome(StrEnum):
    """What became of a stage."""

    DONE = "done"
    INCOMPLETE = "done, but for some lesions"
    KEPT = "kept"  # nothing that it depends on has changed
    LEFT_OUT = "left out"  # optional, and an input is not there


@dataclass(frozen=True, slots=True)
class ReproduceSettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        output: Folder for the record of the stages (reproduce.json) and verdicts.csv.
        stages: In their order.
        expected: File of expected values; "" for none.
    """

    output: str
    stages: tuple[Stage, ...]
    expected: str = ""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("there is no stage", "stages", "name one")
        check_order(self.stages)


def reproduce(settings_path: Path) -> dict[str, Outcome]:
    """The verb.

    Returns:
        Stage -> what became of it.

    Raises:
        ConfigError: The settings of the study or of a stage are wrong, or an input is not there.
        FmcibError: A stage failed; the message is its own, the log says which it was. The same command goes on there.
    """
    settings = from_plain(ReproduceSettings, read_yaml(settings_path), where=settings_path.name)
    expected = read_expected(Path(settings.expected)) if settings.expected else ()
    output = Path(settings.output)
    record = _read_record(output / RECORD)
    outcomes: dict[str, Outcome] = {}
    for number, stage in enumerate(settings.stages, start=1):
        log.info("stage %d of %d: %s", number, len(settings.stages), stage.name)
        outcomes[stage.name] = _run(stage, record, output / RECORD)
        log.info("stage %s: %s", stage.name, outcomes[stage.name].value)
    if expected:
        judgements = judge_expected(expected)
        with replacing(output / VERDICTS) as temporary:
            verdict_table(judgements).to_csv(temporary, index=False)
        _show(judgements)
    return outcomes


def _run(stage: Stage, record: dict[str, Any], path: Path) -> Outcome:
    """Do a stage unless it is done; the record is written after each, so that a kill costs one stage."""
    if not Path(stage.settings).is_file():
        raise ConfigError(f"{stage.settings} is not there", f"stage {stage.name}", "name the YAML file of its verb")
    if missing := stage.missing():
        if not stage.optional:
            fix = stage.hint or "check the paths, or the stage that should have written it"
            raise ConfigError(f"{missing[0]} is not there", f"stage {stage.name}", fix)
        log.warning("stage %s: %s is not there%s", stage.name, missing[0], f" ({stage.hint})" if stage.hint else "")
        record.pop(stage.name, None)
        return Outcome.LEFT_OUT
    sources, before = stage.source_digest(), record.get(stage.name, {})
    if before.get("sources") == sources and not stage.unwritten() and before["outputs"] == stage.output_digest():
        return Outcome.KEPT
    record.pop(stage.name, None)
    started = time.monotonic()
    outcome = _call(stage)
    if unwritten := stage.unwritten():
        raise ConfigError(f"it did not write {unwritten[0]}", f"stage {stage.name}", "correct its outputs")
    record[stage.name] = {
        "verb": stage.verb,
        "outcome": outcome.value,
        "seconds": round(time.monotonic() - started, 1),
        "sources": sources,
        "outputs": stage.output_digest(),
        "version": __version__,
        "git_revision": git_revision(),
    }
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
    return outcome


def _call(stage: Stage) -> Outcome:
    try:
        load_verb(stage.verb)(Path(stage.settings))
    except FmcibError as error:
        if not (stage.incomplete and isinstance(error, InputError)) or stage.unwritten():
            log.warning("stage %s failed", stage.name)  # why, the command line says
            raise
        log.warning("stage %s: %s", stage.name, error)
        return Outcome.INCOMPLETE
    return Outcome.DONE


def _read_record(path: Path) -> dict[str, Any]:
    """Stage -> its entry; empty where there is none that can be read: then all is done again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _show(judgements: Sequence[Judgement]) -> None:
    for one in judgements:
        found = "" if one.verdict is Verdict.NOT_THERE else f", found {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        away = f" by {one.difference:+.3f}" if one.verdict in {Verdict.DIFFERS, Verdict.NO_INTERVAL} else ""
        log.info("%s: expected %.3f%s: %s%s", one.expected.name, one.expected.value, found, one.verdict.value, away)
