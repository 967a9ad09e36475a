"""Everything that is written for one series: the table, a picture per lesion, then the SEG and SR that go with it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import Dataset

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.contrast import contrast_note
from fmcib_module.adapters.gather import gather_compiled
from fmcib_module.adapters.picture_writer import picture_png
from fmcib_module.adapters.roi_references import LABEL_MAP_CLASS
from fmcib_module.adapters.seed_finder import roi_mask
from fmcib_module.adapters.seg_writer import write_seed_seg
from fmcib_module.adapters.slicer_writer import SEEDS_NAME, patch_nrrd, seeds_markup
from fmcib_module.adapters.sr_writer import write_sr
from fmcib_module.adapters.tables import write_series_csv
from fmcib_module.adapters.unforeseen import unforeseen
from fmcib_module.adapters.variants_file import VARIANTS_NAME, write_variants
from fmcib_module.core.conventions import POINT_KINDS, SeedKind
from fmcib_module.core.domain import Lesion, Seed, SeriesReport
from fmcib_module.core.errors import FmcibError, InputError
from fmcib_module.core.naming import patch_name, picture_name
from fmcib_module.core.patch import extract_patch, patch_affine
from fmcib_module.core.picture import make_picture
from fmcib_module.core.plane_sampling import Mask
from fmcib_module.core.volume import Volume
from fmcib_module.output import sha256_of
from fmcib_module.settings import Settings

SEG_NAME = "seeds.seg.dcm"
CSV_NAME = "features.csv"


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A lesion and its ROI on the scan's grid.

    Attributes:
        lesion: As in the report.
        mask: Its ROI; None where it falls between voxels, lies outside, or cannot be read again.
    """

    lesion: Lesion
    mask: Mask | None


@dataclass(slots=True)
class Written:
    """What `write_series` did.

    Attributes:
        files: Name, relative to the series' folder -> SHA-256.
        pictures: Lesion's place in the report -> its picture's name, as in `files`.
        notes: What was left out on purpose, and what the header does not say.
        error: Why something that goes with the table could not be made; the table itself is there.
    """

    files: dict[str, str] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: FmcibError | None = None


def write_series(report: SeriesReport, volume: Volume | None, output: Path, settings: Settings) -> Written:
    """Write OUTPUT/<series>/features.csv, seeds.mrk.json, qc/*, seeds.seg.dcm and features*.sr.dcm.

    Args:
        report: Lesions of one series; without any, nothing is written.
        volume: The scan, for the derived SEG's geometry and for the pictures.
        output: OUTPUT.
        settings: `pictures`, `save_patches`, `sr` and `seg` choose what is written.

    Raises:
        OutputError: The folder cannot be written.
    """
    written = Written()
    if not report.lesions:
        return written
    folder = output / report.series.output_name
    write_series_csv(report, folder / CSV_NAME)
    write_bytes(folder / SEEDS_NAME, seeds_markup([lesion.seed for lesion in report.lesions]))
    paths = [folder / CSV_NAME, folder / SEEDS_NAME]
    if any(lesion.variants for lesion in report.lesions):
        write_variants(report.lesions, folder / VARIANTS_NAME)
        paths.append(folder / VARIANTS_NAME)
    try:
        with unforeseen(f"SeriesInstanceUID {report.series.uid}"):
            _write_what_goes_with_it(report, volume, folder, settings, written, paths)
    except FmcibError as error:
        written.error = error
    written.files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    return written


def _write_what_goes_with_it(
    report: SeriesReport, volume: Volume | None, folder: Path, settings: Settings, written: Written, paths: list[Path]
) -> None:
    """Pictures, patches, SEG and SR; what was written before an error stays in `written` and `paths`."""
    drawn = _draw_rois(report, volume, settings)
    if volume is not None and settings.pictures:
        written.pictures = _write_pictures(report, drawn, volume, folder)
        paths += [folder / name for name in written.pictures.values()]
    if volume is not None and settings.save_patches:
        paths += _write_patches(report, volume, folder)
    if not report.series.instances:
        if settings.sr or settings.seg:
            written.notes = ("no DICOM SR and SEG: the image is not DICOM",)
        return
    written.notes = (note,) if (note := contrast_note(report.series)) else ()
    segmentation = _write_seg(report, drawn, volume, folder, settings)
    if segmentation is not None:
        paths.append(folder / SEG_NAME)
    if settings.sr:
        paths += write_sr(report, folder, segmentation=segmentation)


def _draw_rois(report: SeriesReport, volume: Volume | None, settings: Settings) -> list[Drawn]:
    """Each lesion's ROI on the scan's grid, once for all that need it."""
    drawn = []
    for lesion in report.lesions:
        mask = None
        in_seg = settings.seg and report.series.instances and _needs_segment(report, lesion.seed)
        if volume is not None and (in_seg or settings.pictures):
            try:
                with unforeseen(f"SeriesInstanceUID {report.series.uid}, ROI {lesion.seed.label!r}"):
                    mask = roi_mask(report.series, lesion.seed, volume.grid)
            except InputError:
                mask = None  # the lesion has features: the picture shows its seed, and the SEG a point
        drawn.append(Drawn(lesion, mask))
    return drawn


def _write_pictures(report: SeriesReport, drawn: list[Drawn], volume: Volume, folder: Path) -> dict[int, str]:
    """A picture per lesion; the sphere that stands for a point is no outline and is left out."""
    pictures = {}
    for place, item in enumerate(drawn):
        seed = item.lesion.seed
        outline = None if seed.kind in POINT_KINDS else item.mask
        picture = make_picture(volume, seed, report.provenance.mode, outline)
        pictures[place] = picture_name(place, seed.label)
        write_bytes(folder / pictures[place], picture_png(picture))
    return pictures


def _write_patches(report: SeriesReport, volume: Volume, folder: Path) -> list[Path]:
    """A patch per lesion, cut once more: its slices are decoded already, and patches of a cohort need not be kept."""
    paths, mode = [], report.provenance.mode
    for place, lesion in enumerate(report.lesions):
        patch = extract_patch(volume, lesion.seed, mode, gather=gather_compiled)
        paths.append(folder / patch_name(place, lesion.seed.label))
        write_bytes(paths[-1], patch_nrrd(patch, patch_affine(volume.grid, lesion.seed, mode)))
    return paths


def _write_seg(
    report: SeriesReport, drawn: list[Drawn], volume: Volume | None, folder: Path, settings: Settings
) -> Dataset | None:
    """The derived SEG: one segment per lesion that an SR cannot refer to otherwise; None where there is none."""
    if not settings.seg or volume is None:
        return None
    masked = []
    for item in drawn:
        if _needs_segment(report, item.lesion.seed):
            masked += [(item.lesion, item.mask)] if item.mask is not None else _as_point(report, item.lesion, volume)
    if not masked:
        return None
    lesions, masks = zip(*masked, strict=True)
    return write_seed_seg(replace(report, lesions=lesions), masks, volume.grid, folder / SEG_NAME)


def _needs_segment(report: SeriesReport, seed: Seed) -> bool:
    """Whether the derived SEG holds a lesion: all but those of a SEG with one frame set per segment.

    A label map is copied, because validators and readers of SR do not take references to its segments yet.
    """
    source = next((source for source in report.series.roi_sources if source.uid == seed.source_uid), None)
    is_label_map = source is not None and source.sop_class_uid == LABEL_MAP_CLASS
    return seed.kind is not SeedKind.SEG or is_label_map


def _as_point(report: SeriesReport, lesion: Lesion, volume: Volume) -> list[tuple[Lesion, Mask]]:
    """A lesion whose ROI holds no voxel, marked by a point; nothing where that lies outside the scan too."""
    as_point = replace(lesion, seed=replace(lesion.seed, kind=SeedKind.POINT))
    try:
        return [(as_point, roi_mask(report.series, replace(as_point.seed, source_uid=""), volume.grid))]
    except InputError:
        return []
