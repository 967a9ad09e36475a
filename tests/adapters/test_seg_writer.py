import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fmcib_module.adapters.seg_writer import write_seed_seg
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import Instance, Lesion, Point, Seed, Series
from fmcib_module.core.report import tracking_uid
from fmcib_module.core.volume import Grid
from tests.adapters.report_builders import (
    dciodvfy_complaints,
    grid_of,
    phantom_lesions,
    phantom_masks,
    phantom_series,
    random_features,
    report_of,
    series_of,
    tool,
)
from tests.phantoms import ORIENTATIONS, PhantomStudy, write_study
from tests.shared import DATA, needs_shared


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_study(tmp_path_factory.mktemp("phantom"))


def written(study: PhantomStudy, path: Path, kind: SeedKind = SeedKind.RTSTRUCT) -> Dataset:
    report = report_of(phantom_series(study), phantom_lesions(study, kind))
    seg = write_seed_seg(report, phantom_masks(study), grid_of(study), path)
    assert seg is not None
    return seg


def points(number: int) -> list[Lesion]:
    return [Lesion(Seed((float(n), 0, 0), f"L{n}", ""), random_features(2)) for n in range(number)]


def centroid_lps(seg: Dataset, number: int) -> Point:
    """Mean position of a segment's voxels: pixels and functional groups read with pydicom alone."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    dy, dx = shared.PixelMeasuresSequence[0].PixelSpacing
    row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    found = []
    stored = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for pixels, item in zip(stored, seg.PerFrameFunctionalGroupsSequence, strict=True):
        if item.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            j, i = np.nonzero(pixels)
            origin = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            found.append(origin + np.outer(i * dx, row) + np.outer(j * dy, column))
    x, y, z = np.concatenate(found).mean(axis=0).tolist()
    return x, y, z


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_the_centroids_of_the_segments_are_those_of_the_lesions(orientation: str, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", orientation=orientation, shape_kji=(14, 27, 31))  # frames end inside a byte
    written(study, tmp_path / "seeds.seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seeds.seg.dcm")
    for number, centre in enumerate(study.centroids.values(), start=1):
        assert centroid_lps(seg, number) == pytest.approx(centre, abs=1e-4)


def test_highdicom_gives_the_masks_back_on_the_source_images(study: PhantomStudy, tmp_path: Path) -> None:
    written(study, tmp_path / "seeds.seg.dcm")
    seg = hd.seg.segread(tmp_path / "seeds.seg.dcm")
    uids = [one.sop_instance_uid for one in phantom_series(study).instances]
    pixels = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True)
    for number, mask in enumerate(study.masks.values()):
        assert (pixels[..., number] == mask).all()
    volume = seg.get_volume(segment_numbers=[1], combine_segments=True)
    first = np.flatnonzero(study.masks["GTV-1"].any(axis=(1, 2)))[0]
    assert volume.spatial_shape[1:] == study.voxels_hu.shape[1:]
    assert volume.array.sum() == study.masks["GTV-1"].sum()
    lowest = volume.map_indices_to_reference(np.array([[0, 0, 0], [volume.spatial_shape[0] - 1, 0, 0]]))
    expected = (study.affine @ [0, 0, first, 1])[:3]
    assert np.abs(lowest - expected).sum(axis=1).min() < 1e-4


def test_dcmqi_and_simpleitk_find_the_same_centroids(study: PhantomStudy, tmp_path: Path) -> None:
    written(study, tmp_path / "seeds.seg.dcm")
    command = [tool("segimage2itkimage"), "--inputDICOM", str(tmp_path / "seeds.seg.dcm")]
    done = subprocess.run([*command, "--outputDirectory", str(tmp_path)], capture_output=True, check=True)
    assert b"type 2" not in done.stderr
    sitk: Any = SimpleITK
    for number, centre in enumerate(study.centroids.values(), start=1):
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(sitk.ReadImage(str(tmp_path / f"{number}.nrrd"), sitk.sitkUInt8))
        assert shape.GetCentroid(number) == pytest.approx(centre, abs=1e-4)


def test_validator_finds_nothing_to_complain_about(study: PhantomStudy, tmp_path: Path) -> None:
    written(study, tmp_path / "seeds.seg.dcm")
    assert dciodvfy_complaints(tmp_path / "seeds.seg.dcm") == set()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (SeedKind.RTSTRUCT, "Copy of the contours of ROI 1 in RTSTRUCT 2.25."),
        (SeedKind.POINT, "Marks the point that was given; it does not outline the lesion"),
    ],
)
def test_segments_say_what_they_are_copies_of(study: PhantomStudy, tmp_path: Path, kind: SeedKind, words: str) -> None:
    seg = written(study, tmp_path / "seeds.seg.dcm", kind)
    assert seg.SegmentSequence[0].SegmentDescription.startswith(words)


def test_segments_are_tracked_like_the_lesions_and_long_labels_are_cut(study: PhantomStudy, tmp_path: Path) -> None:
    label = "Tümor\\links\n" + "腫瘍" * 40
    report = report_of(phantom_series(study), [Lesion(Seed((1, 2, 3), label, "", SeedKind.POINT), random_features(2))])
    write_seed_seg(report, phantom_masks(study)[:1], grid_of(study), tmp_path / "seeds.seg.dcm")
    (segment,) = pydicom.dcmread(tmp_path / "seeds.seg.dcm").SegmentSequence
    assert segment.TrackingID == label
    assert segment.TrackingUID == tracking_uid(study.series_uid, report.lesions[0].seed)
    assert segment.SegmentLabel == "Tümor links " + "腫瘍" * 8 + "腫"  # 64 bytes
    assert dciodvfy_complaints(tmp_path / "seeds.seg.dcm") == set()


def test_frames_refer_to_their_slices_and_the_object_to_the_series(study: PhantomStudy, tmp_path: Path) -> None:
    written(study, tmp_path / "seeds.seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seeds.seg.dcm")
    series = phantom_series(study)
    positions = {one.sop_instance_uid: one.position_mm for one in series.instances}
    for item in seg.PerFrameFunctionalGroupsSequence:
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        position = [float(value) for value in item.PlanePositionSequence[0].ImagePositionPatient]
        assert position == pytest.approx(positions[source.ReferencedSOPInstanceUID], abs=1e-6)
    (referenced,) = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == series.uid
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == set(positions)
    assert seg.FrameOfReferenceUID == study.frame_of_reference_uid


def test_only_frames_with_voxels_are_stored_and_a_rerun_repeats_every_uid(study: PhantomStudy, tmp_path: Path) -> None:
    first, second = (written(study, tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert first.NumberOfFrames == sum(mask.any(axis=(1, 2)).sum() for mask in study.masks.values())
    assert uids_of(first) == uids_of(second)


def uids_of(dataset: Dataset) -> list[Any]:
    return [element.value for element in dataset.iterall() if element.VR == "UI"]


def test_overlapping_segments_are_kept_apart_and_declared(study: PhantomStudy, tmp_path: Path) -> None:
    mask: NDArray[np.bool_] = np.zeros((2, 32, 32), dtype=np.bool_)
    mask[:, 3:9, 4:8] = True
    report = report_of(phantom_series(study), points(2))
    write_seed_seg(report, [(3, mask), (4, mask)], grid_of(study), tmp_path / "seeds.seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seeds.seg.dcm")
    assert seg.SegmentsOverlap == "YES"
    assert (seg.pixel_array == np.concatenate([mask, mask])).all()
    step = (study.affine @ [0, 0, 1, 0])[:3]
    assert np.subtract(centroid_lps(seg, 2), centroid_lps(seg, 1)) == pytest.approx(step, abs=1e-4)


def test_a_lesion_without_voxels_gets_no_segment(study: PhantomStudy, tmp_path: Path) -> None:
    empty = (0, np.zeros((1, 32, 32), dtype=np.bool_))
    report = report_of(phantom_series(study), points(2))
    seg = write_seed_seg(report, [empty, phantom_masks(study)[0]], grid_of(study), tmp_path / "one.dcm")
    assert seg is not None
    assert [(one.SegmentNumber, one.TrackingID) for one in seg.SegmentSequence] == [(1, "L1")]
    assert write_seed_seg(report, [empty, empty], grid_of(study), tmp_path / "none.dcm") is None
    assert not (tmp_path / "none.dcm").exists()


def test_a_single_segment_is_found_by_highdicom_own_references(study: PhantomStudy, tmp_path: Path) -> None:
    report = report_of(phantom_series(study), points(1))
    write_seed_seg(report, phantom_masks(study)[:1], grid_of(study), tmp_path / "seeds.seg.dcm")
    seg = hd.seg.segread(tmp_path / "seeds.seg.dcm")
    assert len(hd.sr.ReferencedSegment.from_segmentation(seg, segment_number=1)) >= 2


def test_a_resampled_grid_has_positions_but_no_source_images(study: PhantomStudy, tmp_path: Path) -> None:
    matrix = study.affine.copy()
    matrix[:3, 2] *= 0.8
    report = report_of(phantom_series(study), points(1))
    mask = np.ones((1, 32, 32), dtype=np.bool_)
    write_seed_seg(report, [(5, mask)], Grid.from_matrix((20, 32, 32), matrix), tmp_path / "seeds.seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seeds.seg.dcm")
    assert centroid_lps(seg, 1) == pytest.approx((matrix @ [15.5, 15.5, 5, 1])[:3], abs=1e-4)
    assert not seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    assert {line for line in dciodvfy_complaints(tmp_path / "seeds.seg.dcm") if line.startswith("Error")} == set()


@needs_shared
def test_frames_of_an_enhanced_ct_are_referred_to_by_number(tmp_path: Path) -> None:
    (path,) = [one for one in (DATA / "edge-cases/multiframe").rglob("*") if is_enhanced_ct(one)]
    series, grid = enhanced_series(path)
    mask = np.ones((1, *grid.shape[1:]), dtype=np.bool_)
    assert write_seed_seg(report_of(series, points(1)), [(1, mask)], grid, tmp_path / "seeds.seg.dcm") is not None
    seg = pydicom.dcmread(tmp_path / "seeds.seg.dcm")
    (source,) = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedSOPInstanceUID == series.instances[1].sop_instance_uid
    assert series.instances[1].frame is not None
    assert source.ReferencedFrameNumber == series.instances[1].frame + 1
    assert {line for line in dciodvfy_complaints(tmp_path / "seeds.seg.dcm") if line.startswith("Error")} == set()


def is_enhanced_ct(path: Path) -> bool:
    if not path.is_file():
        return False
    ds = pydicom.dcmread(path, specific_tags=["SOPClassUID", "PerFrameFunctionalGroupsSequence"], force=True)
    return ds.get("SOPClassUID") == pydicom.uid.EnhancedCTImageStorage and len(ds.PerFrameFunctionalGroupsSequence) > 1


def enhanced_series(path: Path) -> tuple[Series, Grid]:
    """Two frames of an enhanced CT as a series, sorted along the normal, and their grid."""
    ds = pydicom.dcmread(path)
    instances = []
    for frame, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        groups = [item, ds.SharedFunctionalGroupsSequence[0]]
        (orientation,) = [g.PlaneOrientationSequence[0] for g in groups if "PlaneOrientationSequence" in g][:1]
        (measures,) = [g.PixelMeasuresSequence[0] for g in groups if "PixelMeasuresSequence" in g][:1]
        x, y, z = map(float, item.PlanePositionSequence[0].ImagePositionPatient)
        a, b, c, d, e, f = map(float, orientation.ImageOrientationPatient)
        dy, dx = map(float, measures.PixelSpacing)
        shape = (ds.Rows, ds.Columns)
        instances.append(
            Instance(path, ds.SOPInstanceUID, ds.SOPClassUID, frame, (x, y, z), (a, b, c, d, e, f), (dy, dx), shape)
        )
    first = instances[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    instances.sort(key=lambda one: float(np.cross(row, column) @ one.position_mm))
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = row * first.spacing_mm[1], column * first.spacing_mm[0]
    matrix[:3, 2] = np.subtract(instances[1].position_mm, instances[0].position_mm)
    matrix[:3, 3] = instances[0].position_mm
    series = Series(ds.SeriesInstanceUID, ds.StudyInstanceUID, "CT", ds.FrameOfReferenceUID, tuple(instances))
    return series, Grid.from_matrix((len(instances), *first.shape), matrix)


def test_a_series_without_a_frame_of_reference_gets_no_seg(study: PhantomStudy, tmp_path: Path) -> None:
    ct = pydicom.dcmread(study.ct_paths[0])
    ct.save_as(tmp_path / "ct.dcm")
    series = series_of([tmp_path / "ct.dcm"])
    del ct.FrameOfReferenceUID
    ct.save_as(tmp_path / "ct.dcm")
    report = report_of(replace(series, frame_of_reference_uid=""), points(1))
    mask = (0, np.ones((1, 32, 32), dtype=np.bool_))
    grid = Grid.from_matrix((1, 32, 32), study.affine)
    assert write_seed_seg(report, [mask], grid, tmp_path / "seeds.seg.dcm") is None


def test_masks_that_do_not_fit_are_refused(study: PhantomStudy, tmp_path: Path) -> None:
    report = report_of(phantom_series(study), points(1))
    grid, mask = grid_of(study), np.ones((2, 32, 32), dtype=np.bool_)
    with pytest.raises(ValueError, match="one mask per lesion, got 2 for 1"):
        write_seed_seg(report, [(0, mask)] * 2, grid, tmp_path / "seeds.seg.dcm")
    for first_k, wrong in ((19, mask), (-1, mask), (0, mask[:, 1:])):
        with pytest.raises(ValueError, match="does not fit the grid"):
            write_seed_seg(report, [(first_k, wrong)], grid, tmp_path / "seeds.seg.dcm")


def test_ten_lesions_in_three_hundred_large_slices_take_seconds(study: PhantomStudy, tmp_path: Path) -> None:
    first = phantom_series(study).instances[0]
    positions = [(first.position_mm[0], first.position_mm[1], 1.25 * k) for k in range(300)]
    instances = tuple(replace(first, sop_instance_uid=f"1.2.{k}", position_mm=p) for k, p in enumerate(positions))
    report = report_of(replace(phantom_series(study), instances=instances), points(10))
    matrix = np.diag([0.8, 0.8, 1.25, 1.0])
    matrix[:3, 3] = positions[0]
    mask = np.zeros((40, 512, 512), dtype=np.bool_)
    mask[:, 100:140, 200:240] = True
    masks = [(26 * n, mask) for n in range(10)]
    start = time.perf_counter()
    seg = write_seed_seg(report, masks, Grid.from_matrix((300, 512, 512), matrix), tmp_path / "seeds.seg.dcm")
    assert time.perf_counter() - start < 20  # about 1 s on one slow core
    assert seg is not None
    assert seg.NumberOfFrames == 400
    assert (tmp_path / "seeds.seg.dcm").stat().st_size < 400 * 512 * 512 / 8 + 1e6
