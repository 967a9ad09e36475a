"""The records of all items -> the cohort's ledger and tables, as `fmcib run` writes them."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.variants_file import VARIANTS_NAME
from fmcib_module.batch.claims import DEAD_AFTER_S
from fmcib_module.batch.items import Item
from fmcib_module.batch.store import Store
from fmcib_module.comparison_tables import write_comparisons
from fmcib_module.core.errors import OutputError
from fmcib_module.core.ledger import LEDGER_NAME, Ledger, ProblemEntry, Reason, SeriesEntry
from fmcib_module.core.naming import COMPARISON_NAMES, PATIENTS_NAME, extractor_stem
from fmcib_module.ledger_file import parse_ledger
from fmcib_module.output import EXTRACTOR_TABLES, RunOutput
from fmcib_module.report import write_report
from fmcib_module.series_writer import CSV_NAME
from fmcib_module.settings import Settings
from fmcib_module.side_by_side import write_extractor_tables
from fmcib_module.streams import prefetch

COHORT_NAMES: Final = ("features.csv", "features.parquet", PATIENTS_NAME)

READERS: Final = 16
"""Records and tables that are read from a bucket at once."""


def gather(
    store: Store, items: Sequence[Item], records: Mapping[str, str], run: Mapping[str, Any], reasons: Mapping[str, str]
) -> Ledger:
    """One ledger over items; what is not on record is a problem, not forgotten.

    Args:
        store: OUTPUT.
        items: Of the manifest, or of a shard.
        records: Item's key -> name of its record.
        run: From `pipeline.describe_run`.
        reasons: Item's key -> why it could not be done.

    Raises:
        OutputError: A record is damaged.
    """
    found = {item.key: records[item.key] for item in items if item.key in records}
    with ThreadPoolExecutor(READERS, thread_name_prefix="records") as threads:
        ledgers = dict(zip(found, threads.map(lambda name: _read(store, name), found.values()), strict=True))
    encoder = next((one.run["encoder"] for one in ledgers.values() if one.run.get("encoder")), None)
    entries = [entry for ledger in ledgers.values() for entry in ledger.series]
    problems: list[ProblemEntry] = []
    for item in items:
        if item.key in ledgers:
            problems += [
                replace(problem, path=f"{item.name}/{problem.path}".rstrip("/"))
                for problem in ledgers[item.key].problems
            ]
        else:
            problems.append(_not_done(item, reasons.get(item.key, "")))
    return Ledger(
        run={**run, **({"encoder": encoder} if encoder else {})},
        series=tuple(sorted(entries, key=lambda entry: (entry.study_uid, entry.series_uid, entry.output))),
        problems=tuple(problems),
        ignored_files=sum(ledger.ignored_files for ledger in ledgers.values()),
        complete=len(ledgers) == len(items),
    )


def write_cohort(store: Store, gathered: Ledger, settings: Settings, scratch: Path) -> Ledger:
    """Write features.csv, features.parquet and run_status.json (and report.html into a folder) over a gathered ledger.

    Args:
        store: OUTPUT.
        gathered: From `gather`.
        settings: `report`, `stability` and `compare_modes` choose what else is written.
        scratch: For tables on their way from and to a bucket.

    Raises:
        OutputError: A series' table is not the one on record, or the store cannot be written.
    """
    folder = store.folder or scratch / "cohort"
    shutil.rmtree(scratch / "cohort", ignore_errors=True)
    with RunOutput(folder, gathered.run, stale_after_s=DEAD_AFTER_S) as out:
        out.add_problems(gathered.problems, gathered.ignored_files)
        for entry in _with_tables(store, gathered.series, folder, settings):
            out.add(entry)
            if store.folder is None and entry.output and not (settings.stability or settings.extractors):
                shutil.rmtree(folder / entry.output)
    write_comparisons(folder, out.ledger, settings)
    write_extractor_tables(folder, out.ledger, settings)
    if store.folder is None:
        for name in (*COHORT_NAMES, *COMPARISON_NAMES, *EXTRACTOR_TABLES, LEDGER_NAME):
            if (folder / name).is_file():
                store.upload(name, folder / name)
        shutil.rmtree(folder)
    elif settings.report:
        write_report(folder)
    return out.ledger


def _with_tables(
    store: Store, entries: Iterable[SeriesEntry], folder: Path, settings: Settings
) -> Iterator[SeriesEntry]:
    """Entries, each when what the cohort needs of its files lies in the folder."""
    if store.folder is not None:
        yield from entries
        return
    names = [CSV_NAME, *([VARIANTS_NAME] if settings.stability else [])]
    names += [f"{extractor_stem(name)}.csv" for name in settings.extractor_names]

    def fetch(entry: SeriesEntry) -> SeriesEntry:
        for name in (name for name in names if name in entry.files):
            write_bytes(folder / entry.output / name, _verified(store, entry, name))
        return entry

    for entry, _ in prefetch((fetch(entry) for entry in entries), READERS):
        yield entry


def _verified(store: Store, entry: SeriesEntry, name: str) -> bytes:
    content = store.read(f"{entry.output}/{name}")
    if content is None or hashlib.sha256(content).hexdigest() != entry.files[name]:
        what = f"{name} is not the file on record" if content is not None else f"{name} is on record and not there"
        raise OutputError(what, f"SeriesInstanceUID {entry.series_uid}", "write to another place, or restore it")
    return content


def _read(store: Store, name: str) -> Ledger:
    return parse_ledger(store.read(name) or b"", name.rpartition("/")[2])


def _not_done(item: Item, why: str) -> ProblemEntry:
    what = f"not done: {why}" if why else "not done yet"
    reason = Reason("NotDone", what, f"item {item.name}", "run the same command again, it does what is left")
    return ProblemEntry(item.name, item.series_uid, reason)
