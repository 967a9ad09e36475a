"""The chain in one process: Study -> Series -> Seed -> Patch -> Features -> Report, streamed over series."""

import platform
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fmcib_module import __version__, steps
from fmcib_module.adapters import weights as registry
from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.adapters.runner import choose_device, choose_engine
from fmcib_module.comparison_tables import write_comparisons
from fmcib_module.core.domain import Patch, Provenance, Scan, Series
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.ledger import Ledger, ProblemEntry, SeriesEntry
from fmcib_module.lazy_encoder import LazyEncoder, PatchEncoder
from fmcib_module.output import RunOutput
from fmcib_module.progress import Progress
from fmcib_module.report import write_report
from fmcib_module.settings import Settings, settings_from_dict, to_plain
from fmcib_module.side_by_side import SideBySide, describe_extractors, write_extractor_tables
from fmcib_module.streams import prefetch
from fmcib_module.work import SeriesWork, digest_input

Job = tuple[SeriesWork, Iterator[tuple[int, Patch]]]
"""A series, and its patches (place in its seeds, patch) as they are cut."""

PREFETCHED_PATCHES = 8
"""Patches that are cut ahead of the network: 4 MB, and the slices of the series they came from."""

SERIES_TO_WRITE = 8
"""Series that wait to be written while the network goes on: those of a full batch of single lesions."""


def run(
    source: str | Path,
    output: str | Path,
    *,
    settings: Settings | None = None,
    force: bool = False,
    progress: Progress | None = None,
    encode: LazyEncoder | None = None,
    **overrides: Any,
) -> Ledger:
    """Run the chain on a folder.

    Args:
        source: Folder with DICOM objects, image files and seed files, in any order and depth; never modified.
        output: Folder for the results, see docs/outputs.md.
        settings: Defaults if None.
        force: Replace results of another configuration.
        progress: Callbacks for a progress display.
        encode: The encoder of these settings, where the caller has started to load it; else it is loaded here.
        overrides: Fields of `Settings`, as in `run(..., weights="fmcib", mode="centred")`.

    Returns:
        The ledger; its `exit_code` is what the command line returns.

    Raises:
        ConfigError: Settings do not fit, or source and output are the same folder; nothing was run.
        InputError: The source does not exist.
        WeightsError: The weights are absent, damaged or do not fit the network; nothing was run.
        OutputError: The output cannot be written, or holds another configuration's results.
    """
    settings = settings_from_dict({**(settings or Settings()).to_dict(), **overrides})
    source, output, progress = Path(source), Path(output), progress or Progress()
    provenance = check_run(source, output, settings)
    others = SideBySide(settings)
    started = time.perf_counter()
    scan = scan_folder(source, exclude=output, progress=progress.scanned)
    scanned_s = time.perf_counter() - started
    with RunOutput(output, describe_run(settings, provenance), force=force) as out:
        out.add_problems(tuple(map(ProblemEntry.of, scan.problems)), scan.ignored_files)
        out.time("scan", scanned_s)
        candidates = _candidates(scan, settings, out)
        progress.planned(len(candidates))
        encode = encode or LazyEncoder(settings)
        encode.tell(out)
        if candidates and not out.resumes:
            encode.load_ahead()
            if settings.sr or settings.seg:
                _import_ahead(encode)
        for work, _ in prefetch(encode_stream(encode, _jobs(candidates, settings, out)), SERIES_TO_WRITE):
            if work.taken_over is not None:
                out.add(entry := work.taken_over)
            else:
                entry, report = steps.write(work, output, settings=settings, provenance=provenance)
                entry = others.add(work, report, entry, output)
                out.add(entry, report)
            progress.series(entry)
    write_comparisons(output, out.ledger, settings)
    write_extractor_tables(output, out.ledger, settings)
    if settings.report:
        write_report(output)
    return out.ledger


def check_run(source: Path, output: Path, settings: Settings) -> Provenance:
    """What a run would make, if its folders, device and weights are in order.

    Raises:
        ConfigError: Source and output are the same folder, or there is no such device or engine here.
        WeightsError: The weights are absent or damaged.
    """
    if source.resolve() == output.resolve():
        raise ConfigError("INPUT and OUTPUT are the same folder", output.name, "write to another folder")
    return check_settings(settings)


def check_settings(settings: Settings) -> Provenance:
    """What settings would make, if device and weights are in order.

    Raises:
        ConfigError: There is no such device or engine here, or a head cannot be read or was made for other features.
        WeightsError: The weights are absent or damaged.
    """
    choose_engine(settings.engine, choose_device(settings.device))
    weights = registry.verify(settings.weights)
    provenance = Provenance(weights.name, weights.sha256, weights.note, settings.mode, __version__)
    return replace(provenance, heads=tuple(head.facts for head in steps.load_heads(settings, provenance)))


def _import_ahead(encode: LazyEncoder) -> None:
    """Import what writes SR and SEG once the network is loaded: it then works without Python, as importing does not."""

    def import_writers() -> None:
        encode.wait()
        import_module("highdicom")

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="import-writers")
    thread.submit(import_writers)
    thread.shutdown(wait=False)


def _candidates(scan: Scan, settings: Settings, out: RunOutput) -> list[Series]:
    """The series that are asked for features; all others go to the ledger at once."""
    candidates: list[Series] = []
    for series in (series for study in scan.studies for series in study.series):
        if reason := steps.why_skipped(series, settings):
            out.add(SeriesEntry.skipped(series, reason))
        else:
            candidates.append(series)
    return candidates


def _jobs(candidates: Iterable[Series], settings: Settings, out: RunOutput) -> Iterator[Job]:
    """Each series with its patches to come; one that an earlier run finished comes with its entry instead."""
    for series in candidates:
        digest = digest_input(series)
        if entry := out.taken_over(series.output_name, digest):
            yield SeriesWork(series, digest, taken_over=entry), iter(())
        else:
            work = steps.find(series, settings)
            yield work, steps.cut(work, settings)


def encode_stream(encode: PatchEncoder, jobs: Iterable[Job]) -> Iterator[SeriesWork]:
    """Fill batches across lesions, series and patients; hand each series on when its last lesion is done.

    Seeds are found and patches cut in a thread of their own while the network works; an engine that gives the same
    features for every batch size does not wait for a full batch. Series come out in the order they went in; about two
    batches of patches are in memory.
    """
    waiting: deque[SeriesWork] = deque()
    batch: list[tuple[SeriesWork, int, Patch]] = []

    def flush() -> None:
        started = time.perf_counter()
        features = encode([patch for _, _, patch in batch])
        each_s = (time.perf_counter() - started) / len(batch)
        for (work, place, patch), values in zip(batch, features, strict=True):
            steps.keep(work, place, values, patch.variant)
            work.spend("encode", each_s)
        batch.clear()

    for (work, place, patch), next_is_ready in prefetch(_flattened(jobs), PREFETCHED_PATCHES):
        if patch is not None:
            batch.append((work, place, patch))
        else:
            waiting.append(work)
        if batch and (len(batch) == encode.batch_size or (not next_is_ready and encode.takes_any_batch)):
            flush()
        in_batch = {id(pending) for pending, _, _ in batch}
        while waiting and id(waiting[0]) not in in_batch:
            yield waiting.popleft()
    if batch:
        flush()
    yield from waiting


def _flattened(jobs: Iterable[Job]) -> Iterator[tuple[SeriesWork, int, Patch | None]]:
    """Every patch with its series and place; None after the last patch of a series."""
    for work, patches in jobs:
        for place, patch in patches:
            yield work, place, patch
        yield work, -1, None


def describe_run(settings: Settings, provenance: Provenance) -> dict[str, Any]:
    """What made the results, for the ledger."""
    return {
        "version": __version__,
        # names of files, not their folders
        "settings": {
            **settings.to_dict(),
            "weights": provenance.weights,
            "extractors": settings.extractor_names,
            "heads": [head.name for head in provenance.heads],
        },
        "settings_sha256": settings.digest(),
        "weights": provenance.weights,
        "weights_sha256": provenance.weights_sha256,
        "weights_note": provenance.weights_note,
        "mode": provenance.mode.value,
        **({"heads": to_plain(provenance.heads)} if provenance.heads else {}),
        **({"extractors": describe_extractors(settings)} if settings.extractors else {}),
        "versions": {"python": platform.python_version(), **_versions("numpy", "pydicom", "highdicom", "torch")},
        "timings_s": {},
    }


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
