"""The steps of the chain, one function each: find seeds, cut patches, keep features, write results.

`pipeline.run` streams series through them in one process; the mhubio modules run them one after another by file.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters import seed_finder, volume_reader
from fmcib_module.adapters.gather import gather_compiled
from fmcib_module.adapters.head_file import read_head
from fmcib_module.adapters.identifiers import read_identifiers
from fmcib_module.adapters.reference_file import find_reference
from fmcib_module.adapters.unforeseen import unforeseen
from fmcib_module.core.checks import flag_patch, flag_spacing, measure_patch
from fmcib_module.core.comparison import ModeDrift, Stability, measure_drift, measure_stability
from fmcib_module.core.conventions import Flag, Mode
from fmcib_module.core.domain import Lesion, Patch, Provenance, Seed, Series, SeriesReport
from fmcib_module.core.errors import ConfigError, FmcibError, InputError, SeedNotFoundError
from fmcib_module.core.heads import Head, check_head, score_lesion
from fmcib_module.core.ledger import Reason, RoiEntry, SeriesEntry, Stage, Status, finish_entry
from fmcib_module.core.patch import extract_patch
from fmcib_module.core.reference import reference_distances
from fmcib_module.core.report import lesion_scores
from fmcib_module.core.variants import jitter_name, jittered_seeds, mode_name
from fmcib_module.core.volume import Volume
from fmcib_module.settings import Settings
from fmcib_module.work import SeriesWork, digest_input


def why_skipped(series: Series, settings: Settings) -> Reason | None:
    """Why nobody asks features from this series, or None if somebody does."""
    where = f"SeriesInstanceUID {series.uid}"
    if series.skip_reason:
        return Reason("Skipped", series.skip_reason, where, "nothing to do")
    if not any(source.kind in settings.seed_sources for source in series.roi_sources):
        kinds = ", ".join(settings.seed_sources)
        fix = f"add what marks its lesions ({kinds}) to INPUT if it has any"
        return Reason("Skipped", "no seed source belongs to this series", where, fix)
    return None


def find(series: Series, settings: Settings) -> SeriesWork:
    """Series -> seeds, from all of its RTSTRUCT, SEG, seed tables, masks and reports."""
    started = time.perf_counter()
    work = SeriesWork(series=series, input_sha256=digest_input(series), flags=series.flags)
    seeds, failures = seed_finder.find_rois(series, rois=settings.rois, kinds=settings.seed_sources)
    work.seeds = list(seeds)
    for failure in failures:
        work.fail(failure, Stage.FIND)
    work.spend("find", time.perf_counter() - started)
    return work


def cut(work: SeriesWork, settings: Settings) -> Iterator[tuple[int, Patch]]:
    """Seeds -> patches, one at a time, each with its place in `work.seeds`; failures go to the work.

    A lesion's own patch comes first, then its variants if the settings ask for any.
    """
    started = time.perf_counter()
    try:
        with unforeseen(f"SeriesInstanceUID {work.series.uid}"):
            volume = work.volume = volume_reader.read_volume(work.series, irregular=settings.irregular)
    except InputError as error:
        for seed in work.seeds:
            work.fail_seed(seed, error, Stage.EXTRACT)
        work.spend("extract", time.perf_counter() - started)
        return
    spacing = flag_spacing(volume.grid, work.series.instances)
    work.flags = tuple(dict.fromkeys((*work.flags, *volume.flags, *spacing)))
    for place, seed in enumerate(work.seeds):
        try:
            with unforeseen(f"SeriesInstanceUID {work.series.uid}, ROI {seed.label!r}"):
                patch = extract_patch(volume, seed, settings.mode, gather=gather_compiled)
        except InputError as error:
            work.fail_seed(seed, error, Stage.EXTRACT)
            continue
        measures = work.measures[place] = measure_patch(patch)
        flags = (*seed.flags, *flag_patch(patch, measures), *work.flags)
        work.seeds[place] = replace(seed, flags=tuple(dict.fromkeys(flags)))
        work.spend("extract", time.perf_counter() - started)
        yield place, patch
        for variant in _cut_variants(work, volume, seed, settings):
            yield place, variant
        started = time.perf_counter()


def _cut_variants(work: SeriesWork, volume: Volume, seed: Seed, settings: Settings) -> Iterator[Patch]:
    """The lesion from jittered seeds and in the other modes; one without a patch is left out, and so counts as lost."""
    wanted = [
        (jitter_name(number), jittered, settings.mode)
        for number, jittered in enumerate(jittered_seeds(seed, work.series.uid, settings.stability), start=1)
    ]
    if settings.compare_modes:
        wanted += [(mode_name(mode), seed, mode) for mode in Mode if mode is not settings.mode]
    for name, moved, mode in wanted:
        started = time.perf_counter()
        try:
            patch = extract_patch(volume, moved, mode, gather=gather_compiled)
        except InputError:
            continue
        work.spend("variants", time.perf_counter() - started)
        yield replace(patch, variant=name)


def keep(work: SeriesWork, place: int, values: NDArray[np.float32], variant: str = "") -> None:
    """Features -> work; values that are not finite are a failure, not a result, and of a variant they are left out."""
    finite = np.isfinite(values).all()
    if variant:
        if finite:
            work.variants.setdefault(place, {})[variant] = values
        return
    if finite:
        work.values[place] = values
        return
    error = InputError(
        "the network returned values that are not finite",
        f"SeriesInstanceUID {work.series.uid}, ROI {work.seeds[place].label!r}",
        "check the scan for voxels far outside the Hounsfield range, and the weights with `fmcib weights verify`",
    )
    work.fail_seed(work.seeds[place], error, Stage.ENCODE)


def write(
    work: SeriesWork, output: Path, *, settings: Settings, provenance: Provenance
) -> tuple[SeriesEntry, SeriesReport]:
    """Work -> files under OUTPUT/<series>, and the series' entry for the ledger.

    The table is written first; if an object that goes with it cannot be made, the entry says so and the rest stays.
    """
    from fmcib_module import series_writer  # highdicom is only needed where something is written

    started = time.perf_counter()
    report = make_report(work, provenance, settings)
    written = series_writer.write_series(report, work.volume, output, settings)
    work.spend("write", time.perf_counter() - started)
    entry = SeriesEntry(
        series_uid=work.series.uid,
        study_uid=work.series.study_uid,
        modality=work.series.modality,
        status=Status.FAILED if written.error or not report.lesions else Status.OK,
        stage=Stage.WRITE if written.error else Stage.DONE,
        reason=Reason.of(written.error or _nothing_left(work)) if written.error or not report.lesions else None,
        flags=work.flags,
        rois=(*_done(work, report, written.pictures), *work.failed),
        output=work.series.output_name if written.files else "",
        input_sha256=work.input_sha256,
        files=written.files,
        timings_s=work.timings_s,
        notes=written.notes,
        identifiers=read_identifiers(work.series) if settings.identifiers else {},
    )
    return finish_entry(entry), report


def make_report(work: SeriesWork, provenance: Provenance, settings: Settings) -> SeriesReport:
    """The lesions that have features, in the order of their seeds."""
    lesions = [_lesion(work, place, settings) for place in sorted(work.values)]
    reference = find_reference(provenance.weights_sha256, provenance.mode) if lesions else None
    if reference is not None:
        distances = reference_distances(np.stack([lesion.values for lesion in lesions]), reference)
        lesions = [_compared(*pair) for pair in zip(lesions, distances / reference.limit, strict=True)]
    heads = load_heads(settings, provenance) if lesions else ()
    scored = [replace(x, scores=tuple(score_lesion(head, x.values) for head in heads)) for x in lesions]
    return SeriesReport(work.series, tuple(scored), provenance)


def load_heads(settings: Settings, provenance: Provenance) -> tuple[Head, ...]:
    """The heads of a run, which fit its weights and mode.

    Raises:
        ConfigError: One cannot be read, was made for other features, or changed since the run began; or two have the
            same name.
    """
    heads = tuple(read_head(Path(path)) for path in settings.heads)
    for head in heads:
        what = (provenance.weights, provenance.weights_sha256, provenance.mode)
        check_head(head, weights=what[0], weights_sha256=what[1], mode=what[2])
    if len({head.name for head in heads}) < len(heads):
        raise ConfigError("two heads have the same name", heads[0].name, "give each once, or another `name` in `probe`")
    if provenance.heads and provenance.heads != tuple(head.facts for head in heads):
        raise ConfigError("a head's file changed since the run began", heads[0].name, "run again")
    return heads


def _compared(lesion: Lesion, share: float) -> Lesion:
    """The lesion with its distance from the reference cohort, flagged where that is beyond the limit."""
    far = (Flag.FAR_FROM_REFERENCE,) if share > 1 else ()
    seed = replace(lesion.seed, flags=(*lesion.seed.flags, *far))
    return replace(lesion, seed=seed, reference_distance=round(float(share), 3))


def _lesion(work: SeriesWork, place: int, settings: Settings) -> Lesion:
    """A lesion's features, and how they compare to those of its variants."""
    own, variants = work.values[place], work.variants.get(place, {})
    stability: Stability | None = None
    drift: tuple[ModeDrift, ...] = ()
    if settings.stability:
        names = [jitter_name(number) for number in range(1, settings.stability + 1)]
        stability = measure_stability(own, [variants[name] for name in names if name in variants], len(names))
    if settings.compare_modes:
        others = {mode: variants[mode_name(mode)] for mode in Mode if mode_name(mode) in variants}
        drift = measure_drift({settings.mode: own, **others})
    return Lesion(work.seeds[place], own, variants, stability, drift)


def _done(work: SeriesWork, report: SeriesReport, pictures: Mapping[int, str]) -> Iterator[RoiEntry]:
    """Entries of the lesions that have features, with their pictures' names."""
    for number, (place, lesion) in enumerate(zip(sorted(work.values), report.lesions, strict=True)):
        yield RoiEntry.done(
            lesion.seed,
            pictures.get(number, ""),
            work.measures.get(place),
            stability=lesion.stability,
            drift=lesion.drift,
            reference_distance=lesion.reference_distance,
            scores=lesion_scores(lesion),
        )


def _nothing_left(work: SeriesWork) -> FmcibError:
    return SeedNotFoundError(
        f"none of {len(work.failed)} ROI(s) gave features",
        f"SeriesInstanceUID {work.series.uid}",
        "see the reason of each ROI below it",
    )
