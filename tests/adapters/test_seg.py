"""DICOM Segmentations: written by highdicom and by hand against geometry, real ones against other readers."""

import zlib

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from fmcib_module.adapters.roi_writer import seg_dataset
from fmcib_module.adapters.seed_finder import find_rois, find_seeds, roi_mask
from fmcib_module.adapters.seg import DEFLATED_FRAMES
from fmcib_module.adapters.study_writer import StudyTags
from fmcib_module.core.conventions import Flag, SeedKind
from fmcib_module.core.errors import FrameOfReferenceError, InputError, PixelDataError, SeedNotFoundError
from fmcib_module.core.volume import Grid
from tests.adapters.seed_sources import bare_series, grid_of, series_of, source_of
from tests.phantoms import ORIENTATIONS, write_study
from tests.shared import DATA, needs_shared

TAGS = StudyTags("tests seg", "PHANTOM^TEST", "PHANTOM-1")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """43 x 33 pixels: frames of 1419 bits, which do not end on a byte."""
    return write_study(tmp_path_factory.mktemp("study"), shape_kji=(9, 33, 43), rtstruct=False, seg=False)


def two_masks(study):
    """Two overlapping masks that are no symmetric bodies, from a fixed seed."""
    random = np.random.default_rng(17).random((2, *study.voxels_hu.shape))
    masks = {"first": random[0] > 0.8, "second": random[1] > 0.5}
    masks["first"][4:6] = False  # empty frames, which highdicom leaves out
    masks["second"][:2] = False
    assert (masks["first"] & masks["second"]).any()
    return masks


def write_seg(study, path, masks, kind="BINARY"):
    ct = [pydicom.dcmread(slice_path) for slice_path in study.ct_paths]
    seg = seg_dataset(masks, ct, TAGS, kind=kind)
    seg.save_as(path)
    return seg


def series_with(study, path):
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return bare_series(source_of(path), uid=study.series_uid, frame_uid=str(dataset.FrameOfReferenceUID))


def mean_lps(study, weights):
    """Weighted mean of the voxel centres, straight from the phantom's affine."""
    k, j, i = np.nonzero(weights)
    w = weights[k, j, i].astype(float)
    return study.affine[:3, :3] @ (np.stack([i, j, k]) @ w / w.sum()) + study.affine[:3, 3]


def without_overlap(masks):
    return {"first": masks["first"], "second": masks["second"] & ~masks["first"]}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_are_at_the_mean_of_their_voxels(study, tmp_path, kind):
    masks = without_overlap(two_masks(study)) if kind == "LABELMAP" else two_masks(study)
    write_seg(study, tmp_path / "seg.dcm", masks, kind)
    seeds = find_seeds(series_with(study, tmp_path / "seg.dcm"))
    assert [(seed.roi_number, seed.label, seed.kind) for seed in seeds] == [
        (1, "first", SeedKind.SEG),
        (2, "second", SeedKind.SEG),
    ]
    for seed in seeds:
        mask = masks[seed.label]
        assert seed.lps_mm == pytest.approx(mean_lps(study, mask), abs=1e-4)
        assert seed.volume_mm3 == pytest.approx(mask.sum() * 1.5 * 1.5 * 2.5)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_phantom_segments_are_where_they_were_painted(tmp_path, orientation, kind):
    study = write_study(tmp_path, orientation=orientation, rtstruct=False, seg=kind)
    for seed in find_seeds(series_of(tmp_path / "ct", tmp_path / "seg.dcm")):
        assert seed.lps_mm == pytest.approx(study.centroids[seed.label], abs=1e-3)


def test_the_extent_goes_from_voxel_edge_to_voxel_edge(study, tmp_path):
    mask = np.zeros(study.voxels_hu.shape, dtype=bool)
    mask[2:5, 3:7, 10:12] = True
    write_seg(study, tmp_path / "seg.dcm", {"box": mask})
    (seed,) = find_seeds(series_with(study, tmp_path / "seg.dcm"))
    assert seed.extent_mm == pytest.approx((2 * 1.5, 4 * 1.5, 3 * 2.5))


def test_fractions_weigh_the_centroid(study, tmp_path):
    weights = np.zeros(study.voxels_hu.shape, dtype=np.float32)
    weights[3, 4, 5], weights[3, 4, 9] = 0.2, 0.6
    write_seg(study, tmp_path / "seg.dcm", {"soft": weights}, "FRACTIONAL")
    (seed,) = find_seeds(series_with(study, tmp_path / "seg.dcm"))
    assert seed.lps_mm == pytest.approx(mean_lps(study, weights), abs=0.01)  # stored in steps of 1/255
    assert seed.extent_mm[0] == pytest.approx(5 * 1.5)
    assert seed.volume_mm3 == pytest.approx(0.8 * 1.5 * 1.5 * 2.5, rel=0.01)
    assert Flag.OUTSIDE_MASK in seed.flags


def test_an_empty_segment_is_a_failure_and_the_others_go_on(study, tmp_path):
    masks = two_masks(study) | {"nothing": np.zeros(study.voxels_hu.shape, dtype=bool)}
    write_seg(study, tmp_path / "seg.dcm", masks)
    seeds, failures = find_rois(series_with(study, tmp_path / "seg.dcm"))
    assert [seed.label for seed in seeds] == ["first", "second"]
    assert [(failure.label, failure.roi_number) for failure in failures] == [("nothing", 3)]
    assert isinstance(failures[0].error, SeedNotFoundError)
    assert failures[0].error.what == "the segment is empty"


def test_a_segment_number_in_the_shared_groups_holds_for_all_frames(study, tmp_path):
    mask = two_masks(study)["first"]
    seg = write_seg(study, tmp_path / "seg.dcm", {"only": mask})
    assert "SegmentIdentificationSequence" in seg.SharedFunctionalGroupsSequence[0]
    assert "SegmentIdentificationSequence" not in seg.PerFrameFunctionalGroupsSequence[0]
    (seed,) = find_seeds(series_with(study, tmp_path / "seg.dcm"))
    assert seed.lps_mm == pytest.approx(mean_lps(study, mask), abs=1e-4)


def test_orientation_and_measures_may_be_given_per_frame(study, tmp_path):
    mask = two_masks(study)["first"]
    seg = write_seg(study, tmp_path / "seg.dcm", {"only": mask})
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame in seg.PerFrameFunctionalGroupsSequence:
        frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
        frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    seg.save_as(tmp_path / "frames.dcm")
    (seed,) = find_seeds(series_with(study, tmp_path / "frames.dcm"))
    assert seed.lps_mm == pytest.approx(mean_lps(study, mask), abs=1e-4)


def test_the_order_of_frames_does_not_matter(study, tmp_path):
    masks = two_masks(study)
    seg = write_seg(study, tmp_path / "seg.dcm", masks, "FRACTIONAL")
    frames = np.frombuffer(seg.PixelData, np.uint8).reshape(-1, 33 * 43)
    order = np.random.default_rng(1).permutation(len(frames))
    groups = seg.PerFrameFunctionalGroupsSequence
    seg.PerFrameFunctionalGroupsSequence = [groups[int(n)] for n in order]
    seg.PixelData = frames[order].tobytes() + b"\0" * (frames.size % 2)
    seg.save_as(tmp_path / "shuffled.dcm")
    for seed in find_seeds(series_with(study, tmp_path / "shuffled.dcm")):
        assert seed.lps_mm == pytest.approx(mean_lps(study, masks[seed.label]), abs=1e-4)


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian], ids=lambda s: s.name
)
@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_compressed_segments_are_decoded(study, tmp_path, kind, syntax):
    masks = without_overlap(two_masks(study))
    seg = write_seg(study, tmp_path / "seg.dcm", masks, kind)
    if syntax.is_encapsulated:
        seg.compress(syntax, generate_instance_uid=False)
    else:
        seg.file_meta.TransferSyntaxUID = syntax
    seg.save_as(tmp_path / "compressed.dcm")
    for seed in find_seeds(series_with(study, tmp_path / "compressed.dcm")):
        assert seed.lps_mm == pytest.approx(mean_lps(study, masks[seed.label]), abs=1e-4)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_frames_deflated_one_by_one_are_decoded(study, tmp_path, kind):
    masks = two_masks(study)
    seg = write_seg(study, tmp_path / "seg.dcm", masks, kind)
    n_frames = int(seg.NumberOfFrames)
    frames = [seg.PixelData[n * 1419 : (n + 1) * 1419] for n in range(n_frames)]
    if kind == "BINARY":
        bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")[: n_frames * 1419]
        frames = [np.packbits(frame, bitorder="little").tobytes() for frame in bits.reshape(n_frames, 1419)]
    seg.PixelData = encapsulate([deflate(frame) for frame in frames])
    seg["PixelData"].VR, seg["PixelData"].is_undefined_length = "OB", True
    seg.file_meta.TransferSyntaxUID = DEFLATED_FRAMES
    seg.save_as(tmp_path / "deflated.dcm", implicit_vr=False, little_endian=True, force_encoding=True)
    for seed in find_seeds(series_with(study, tmp_path / "deflated.dcm")):
        assert seed.lps_mm == pytest.approx(mean_lps(study, masks[seed.label]), abs=1e-4)


def deflate(frame):
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = compressor.compress(frame) + compressor.flush()
    return data + b"\0" * (len(data) % 2)


def test_truncated_pixels_are_a_failure(study, tmp_path):
    seg = write_seg(study, tmp_path / "seg.dcm", two_masks(study))
    seg.PixelData = seg.PixelData[:100]
    seg.save_as(tmp_path / "short.dcm")
    _, failures = find_rois(series_with(study, tmp_path / "short.dcm"))
    assert [failure.label for failure in failures] == ["first", "second"]
    assert isinstance(failures[0].error, PixelDataError)
    assert seg.SOPInstanceUID in failures[0].error.where


def test_a_frame_without_a_position_is_a_failure(study, tmp_path):
    seg = write_seg(study, tmp_path / "seg.dcm", {"only": two_masks(study)["first"]})
    del seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    seg.save_as(tmp_path / "nowhere.dcm")
    _, failures = find_rois(series_with(study, tmp_path / "nowhere.dcm"))
    assert "frame 1 has no PlanePositionSequence" in failures[0].error.what


def test_a_file_that_is_no_seg_is_one_failure(study, tmp_path):
    write_seg(study, tmp_path / "seg.dcm", two_masks(study))
    series = series_with(study, tmp_path / "seg.dcm")
    (tmp_path / "seg.dcm").write_bytes(b"nothing")
    _, failures = find_rois(series)
    assert [(failure.roi_number, type(failure.error)) for failure in failures] == [(None, InputError)]


def test_another_frame_of_reference_is_a_failure_unless_the_series_is_named(study, tmp_path):
    write_seg(study, tmp_path / "seg.dcm", {"only": two_masks(study)["first"]})
    source = source_of(tmp_path / "seg.dcm")
    _, failures = find_rois(bare_series(source, uid="1.2", frame_uid="9.9"))
    assert isinstance(failures[0].error, FrameOfReferenceError)
    (seed,) = find_seeds(bare_series(source, uid=study.series_uid, frame_uid="9.9"))
    assert Flag.OTHER_FRAME_OF_REFERENCE in seed.flags


def test_the_mask_on_the_scan_is_the_segment(study, tmp_path):
    masks = two_masks(study)
    write_seg(study, tmp_path / "seg.dcm", masks)
    series = series_with(study, tmp_path / "seg.dcm")
    for seed in find_seeds(series):
        first, mask = roi_mask(series, seed, Grid.from_matrix(study.voxels_hu.shape, study.affine))
        assert (mask == masks[seed.label][first : first + len(mask)]).all()
        assert mask.sum() == masks[seed.label].sum()


DCMQI = DATA / "ct-seg-sr-dcmqi"


def centroids_by_highdicom(path):
    """Centroid of each segment from the volume that highdicom builds."""
    volume = hd.seg.segread(path).get_volume(combine_segments=False)
    found = {}
    for n in range(volume.array.shape[-1]):
        index = np.argwhere(volume.array[..., n])
        found[n + 1] = volume.affine[:3, :3] @ index.mean(axis=0) + volume.affine[:3, 3]
    return found


@needs_shared
@pytest.mark.parametrize("name", ["liver.dcm", "partial_overlaps.dcm"])
def test_liver_and_overlapping_segments_are_where_highdicom_has_them(name):
    series = series_of(DCMQI / "ct-3slice", DCMQI / name)
    seeds = find_seeds(series)
    expected = centroids_by_highdicom(DCMQI / name)
    assert [seed.roi_number for seed in seeds] == sorted(expected)
    for seed in seeds:
        assert seed.lps_mm == pytest.approx(expected[seed.roi_number], abs=1e-3)
        assert Flag.LARGER_THAN_PATCH in seed.flags
    first, mask = roi_mask(series, seeds[0], grid_of(series))
    assert mask.sum() * np.prod(grid_of(series).spacing_mm) == pytest.approx(seeds[0].volume_mm3, rel=1e-4)
    assert 0 <= first <= 2


@needs_shared
def test_frames_of_23_by_38_pixels_agree_with_their_label_image():
    (seed,) = find_seeds(series_of(DCMQI / "23x38x3/image", DCMQI / "23x38x3/seg/label.seg"))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.ReadImage(str(DCMQI / "23x38x3/nrrd/label.nrrd"), sitk.sitkUInt8))
    assert seed.lps_mm == pytest.approx(shape.GetCentroid(1), abs=1e-4)
    assert seed.volume_mm3 == pytest.approx(shape.GetPhysicalSize(1), rel=1e-4)


@needs_shared
@pytest.mark.parametrize(
    ("name", "labels", "flags"),
    [
        ("binary", ["first segment"], set()),
        ("binary_fractional", ["first segment"], set()),
        ("true_fractional", ["first segment"], set()),
        # drawn on all four slices, one of which lies 20 cm away
        ("binary_overlap", ["first segment", "second segment"], {Flag.LARGER_THAN_PATCH, Flag.OUTSIDE_MASK}),
    ],
)
def test_tiny_16_by_16_segs_have_stated_outcomes(name, labels, flags):
    path = DATA / f"edge-cases/seg-16x16/seg_image_ct_{name}.dcm"
    seeds, failures = find_rois(series_of(DATA / "edge-cases/seg-16x16/ct", path))
    assert failures == ()
    assert [seed.label for seed in seeds] == labels
    assert all(set(seed.flags) == flags for seed in seeds)
    weights = pydicom.dcmread(path).pixel_array[: 3 if name != "binary_overlap" else 4].astype(float)
    groups = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    z = [float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in groups[: len(weights)]]
    assert seeds[0].lps_mm[2] == pytest.approx(weights.sum(axis=(1, 2)) @ z / weights.sum(), abs=1e-3)
