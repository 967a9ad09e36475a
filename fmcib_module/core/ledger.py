"""The ledger: what happened to every file, series and ROI of a run."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any

from fmcib_module.core.checks import PatchMeasures
from fmcib_module.core.comparison import ModeDrift, Stability
from fmcib_module.core.conventions import Flag
from fmcib_module.core.domain import FileProblem, Point, RoiFailure, Seed, Series
from fmcib_module.core.errors import FmcibError

LEDGER_NAME = "run_status.json"
LEDGER_SCHEMA = "fmcib-run-status/1"


class Status(StrEnum):
    """Outcome of a series or ROI."""

    OK = "ok"
    FLAGGED = "flagged"  # has features, and something a reader should know
    FAILED = "failed"  # was asked for and has no features
    SKIPPED = "skipped"  # was not asked for: not CT, or nothing drawn on it


class Stage(StrEnum):
    """The step of the chain that an entry reached, or failed in."""

    IMPORT = "import"
    FIND = "find"
    EXTRACT = "extract"
    ENCODE = "encode"
    WRITE = "write"
    DONE = "done"


class ExitCode(IntEnum):
    """Exit codes of the command line and the container."""

    OK = 0  # every requested lesion has features
    USAGE = 2  # wrong usage, configuration or weights; nothing was run
    PARTIAL = 3  # some series or ROI failed, all others are written
    NOTHING = 4  # no lesion at all came through


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something failed or was skipped: what happened, where, what to do."""

    error: str
    what: str
    where: str
    fix: str

    @classmethod
    def of(cls, error: FmcibError) -> "Reason":
        """From an error; keeps its class name."""
        return cls(type(error).__name__, error.what, error.where, error.fix)

    def __str__(self) -> str:
        return f"{self.what} [{self.where}]: {self.fix}"


@dataclass(frozen=True, slots=True)
class RoiEntry:
    """One ROI, segment or point.

    Attributes:
        label: ROI name or segment label, exactly as in the source object.
        roi_number: ROINumber, SegmentNumber or mask label; None for points.
        source_uid: As in `Seed`.
        kind: As in `Seed`.
        status: Its outcome.
        stage: The step that it reached.
        reason: Why it failed.
        flags: What a reader should know.
        lps_mm: The seed.
        extent_mm: As in `Seed`.
        volume_mm3: As in `Seed`.
        picture: The picture to check it by, relative to the series' folder; empty where there is none.
        outside_share: Share of the patch's voxels outside the scan, 0..1; None where no patch was cut.
        tissue_share: Share of the others above -300 HU, 0..1.
        stability: How far its features move with the seed; None where the settings did not ask.
        drift: How far they move from mode to mode; empty where the settings did not ask.
        reference_distance: As in `Lesion`: 1 is the limit.
        scores: Column of the tables -> probability or log hazard ratio, of every head.
        missing: Another extractor that was asked for -> why it gives no features of this lesion.
    """

    label: str
    roi_number: int | None
    source_uid: str
    kind: str
    status: Status
    stage: Stage
    reason: Reason | None = None
    flags: tuple[Flag, ...] = ()
    lps_mm: Point | None = None
    extent_mm: Point | None = None
    volume_mm3: float | None = None
    picture: str = ""
    outside_share: float | None = None
    tissue_share: float | None = None
    stability: Stability | None = None
    drift: tuple[ModeDrift, ...] = ()
    reference_distance: float | None = None
    missing: dict[str, Reason] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @classmethod
    def done(
        cls,
        seed: Seed,
        picture: str = "",
        measures: PatchMeasures | None = None,
        *,
        stability: Stability | None = None,
        drift: tuple[ModeDrift, ...] = (),
        reference_distance: float | None = None,
        scores: dict[str, float] | None = None,
    ) -> "RoiEntry":
        """A lesion that has features."""
        status = Status.FLAGGED if seed.flags else Status.OK
        return cls(
            label=seed.label,
            roi_number=seed.roi_number,
            source_uid=seed.source_uid,
            kind=seed.kind,
            status=status,
            stage=Stage.DONE,
            flags=seed.flags,
            lps_mm=seed.lps_mm,
            extent_mm=seed.extent_mm,
            volume_mm3=seed.volume_mm3,
            picture=picture,
            outside_share=None if measures is None else measures.outside_share,
            tissue_share=None if measures is None else measures.tissue_share,
            stability=stability,
            drift=drift,
            reference_distance=reference_distance,
            scores=scores or {},
        )

    @classmethod
    def failed(cls, failure: RoiFailure, stage: Stage) -> "RoiEntry":
        """An ROI that gives no features."""
        return cls(
            label=failure.label,
            roi_number=failure.roi_number,
            source_uid=failure.source_uid,
            kind=failure.kind,
            status=Status.FAILED,
            stage=stage,
            reason=Reason.of(failure.error),
        )


@dataclass(frozen=True, slots=True)
class SeriesEntry:
    """One series.

    Attributes:
        output: Folder under OUTPUT; empty where nothing was written.
        input_sha256: Digest over what the result depends on: UIDs of the slices and ROI sources.
        files: Name -> SHA-256 of every file written for this series.
        timings_s: Stage -> seconds.
        notes: What was left out on purpose, and what the header does not say ("contrast unknown: ...").
        identifiers: Keyword -> value of who the series is of; empty unless asked for.
        patient: Pseudonym of whose it is, see `pseudonyms.name_of`; empty where it has no lesions.
    """

    series_uid: str
    study_uid: str
    modality: str
    status: Status
    stage: Stage
    reason: Reason | None = None
    flags: tuple[Flag, ...] = ()
    rois: tuple[RoiEntry, ...] = ()
    output: str = ""
    input_sha256: str = ""
    files: dict[str, str] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    identifiers: dict[str, str] = field(default_factory=dict)
    patient: str = ""

    @classmethod
    def skipped(cls, series: Series, reason: Reason) -> "SeriesEntry":
        """A series that nobody asked features from."""
        return cls(series.uid, series.study_uid, series.modality, Status.SKIPPED, Stage.IMPORT, reason, series.flags)

    @property
    def n_lesions(self) -> int:
        """ROIs that have features."""
        return sum(roi.status in (Status.OK, Status.FLAGGED) for roi in self.rois)


@dataclass(frozen=True, slots=True)
class ProblemEntry:
    """A file that could not be used."""

    path: str
    uid: str
    reason: Reason

    @classmethod
    def of(cls, problem: FileProblem) -> "ProblemEntry":
        """From what the importer found."""
        return cls(problem.path, problem.uid, Reason.of(problem.error))


@dataclass(frozen=True, slots=True)
class Ledger:
    """The whole run.

    Attributes:
        run: What made the results: version, versions, settings, settings_sha256, weights, encoder, salt_id, started,
            finished.
        series: One entry per series, in the order of processing.
        problems: Files that could not be used.
        ignored_files: How many files were not imaging data.
        complete: False while the run goes on, and after it was interrupted.
    """

    run: dict[str, Any]
    series: tuple[SeriesEntry, ...] = ()
    problems: tuple[ProblemEntry, ...] = ()
    ignored_files: int = 0
    complete: bool = False

    @property
    def n_lesions(self) -> int:
        """Lesions that have features."""
        return sum(entry.n_lesions for entry in self.series)

    @property
    def exit_code(self) -> ExitCode:
        """0, 3 or 4, as the command line and the container return it."""
        if self.n_lesions == 0:
            return ExitCode.NOTHING
        failed = self.problems or any(
            Status.FAILED in _statuses(entry) or any(roi.missing for roi in entry.rois) for entry in self.series
        )
        return ExitCode.PARTIAL if failed else ExitCode.OK

    def counts(self) -> dict[str, int]:
        """How many ROIs ended ok, flagged and failed."""
        rois = [roi.status for entry in self.series for roi in entry.rois]
        return {status.value: rois.count(status) for status in (Status.OK, Status.FLAGGED, Status.FAILED)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the summary comes first."""
        return {
            "schema": LEDGER_SCHEMA,
            "complete": self.complete,
            "exit_code": int(self.exit_code),
            "lesions": self.counts(),
            "run": self.run,
            "series": [asdict(entry) for entry in self.series],
            "problems": [asdict(entry) for entry in self.problems],
            "ignored_files": self.ignored_files,
        }


def finish_entry(entry: SeriesEntry) -> SeriesEntry:
    """Set a series' status from its ROIs: failed if any failed, flagged if any is flagged or the series is."""
    statuses = {roi.status for roi in entry.rois}
    if entry.status is Status.FAILED or Status.FAILED in statuses:
        return replace(entry, status=Status.FAILED)
    flagged = entry.flags or Status.FLAGGED in statuses
    return replace(entry, status=Status.FLAGGED if flagged else Status.OK)


def _statuses(entry: SeriesEntry) -> Iterable[Status]:
    return (entry.status, *(roi.status for roi in entry.rois))
