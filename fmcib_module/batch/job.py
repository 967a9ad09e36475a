"""One job: manifest -> what is left to do -> workers -> ledger, and the cohort's tables when all is done."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fmcib_module.batch.claims import Task, describe_once, job_name, signs_of_life, survey
from fmcib_module.batch.engine import Cluster, run_tasks
from fmcib_module.batch.fetch import Scratch
from fmcib_module.batch.items import Shard
from fmcib_module.batch.manifest import read_manifest
from fmcib_module.batch.merge import gather, write_cohort
from fmcib_module.batch.retry import StoreError
from fmcib_module.batch.salt import agreed_salt
from fmcib_module.batch.storage import local_path, scheme_of
from fmcib_module.batch.store import open_store
from fmcib_module.batch.worker import JobPlan, Outcome
from fmcib_module.core.errors import OutputError
from fmcib_module.core.ledger import Ledger
from fmcib_module.core.pseudonyms import salt_id
from fmcib_module.ledger_file import parse_ledger
from fmcib_module.pipeline import check_settings, describe_run
from fmcib_module.progress import Progress
from fmcib_module.settings import Settings

GIGABYTE: Final = 10**9

Engine = Callable[[Sequence[Task], JobPlan, Cluster], Iterator[Outcome]]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a job is done; nothing here changes a result.

    Attributes:
        shard: The part of the manifest that this job does.
        cluster: Who works.
        root: What relative paths of the manifest are relative to; None is the manifest's own folder.
        indices: Folder with indices of the Imaging Data Commons; None where idc-index keeps them.
        scratch: Folder for downloads on each machine.
        scratch_gb: Most of it that one worker fills.
        anonymous: Send no credentials to object stores.
        merge_only: Do nothing but gather what jobs have done.
    """

    shard: Shard = field(default_factory=Shard)
    cluster: Cluster = field(default_factory=Cluster)
    root: Path | None = None
    indices: Path | None = None
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "fmcib-batch")
    scratch_gb: float = 20.0
    anonymous: bool = False
    merge_only: bool = False


def run_batch(
    manifest: Path,
    output: str,
    *,
    settings: Settings | None = None,
    options: BatchOptions | None = None,
    progress: Progress | None = None,
    engine: Engine = run_tasks,
) -> Ledger:
    """Do what is left of a manifest, or of a shard of it.

    When all of the manifest is done, a job that is no shard writes the cohort's tables and ledger too.

    Args:
        manifest: See `manifest.read_manifest`.
        output: A folder, s3:// or gs://.
        settings: Of the run; defaults if None.
        options: How it is done; defaults if None.
        progress: Callbacks for a progress display.
        engine: Who does the tasks: Ray.

    Returns:
        The ledger over the manifest, or over the shard's items; its `exit_code` is what the command line returns.

    Raises:
        ConfigError: The manifest, the settings or the cluster are wrong; nothing was run.
        WeightsError: The weights are absent or damaged; nothing was run.
        OutputError: OUTPUT cannot be used, or holds results of another configuration.
    """
    settings, options, progress = settings or Settings(), options or BatchOptions(), progress or Progress()
    root = (options.root or manifest.parent).absolute()
    items = read_manifest(manifest, indices=options.indices)
    provenance = check_settings(settings)
    run = describe_run(settings, provenance)
    try:
        store = open_store(output, anonymous=options.anonymous)
        salt = agreed_salt(store)
        run["salt_id"] = salt_id(salt)
        describe_once(store, run)
        mine = items if options.merge_only else options.shard.choose(items)
        reasons: dict[str, str] = {}
        if not options.merge_only:
            plan = JobPlan(
                job=job_name(),
                output=output if scheme_of(output) else str(local_path(output).absolute()),
                root=root,
                settings=settings,
                provenance=provenance,
                scratch=options.scratch,
                scratch_bytes=int(options.scratch_gb * GIGABYTE),
                salt=salt,
                anonymous=options.anonymous,
            )
            with signs_of_life(store, plan.job):
                left = survey(store, mine)
                progress.planned(len(left.tasks))
                reasons = {item.key: "another job does it" for item in left.busy}
                if left.tasks:
                    reasons |= _do(engine(left.tasks, plan, options.cluster), progress)
        found = survey(store, mine)
        ledger = gather(store, mine, found.records, run, reasons)
        if options.merge_only or (options.shard.count == 1 and ledger.complete):
            scratch = Scratch(options.scratch, 0)
            try:
                return write_cohort(store, ledger, settings, scratch.folder)
            finally:
                scratch.close()
        return ledger
    except StoreError as error:
        raise OutputError(error.what, error.where, error.fix) from error


def _do(outcomes: Iterator[Outcome], progress: Progress) -> dict[str, str]:
    """Follow a job; what could not be done, and why."""
    reasons = {}
    for outcome in outcomes:
        if outcome.reason:
            reasons[outcome.key] = outcome.reason
        if outcome.ledger:
            for entry in parse_ledger(outcome.ledger, outcome.key).series:
                progress.series(entry)
    return reasons
