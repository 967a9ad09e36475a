"""Volumes against SimpleITK's series reader and against phantoms; which slices are decoded, and how often."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
import SimpleITK

from fmcib_module.adapters import volume_reader
from fmcib_module.adapters.dicom_import import read_studies
from fmcib_module.adapters.pixels import decode_slices
from fmcib_module.adapters.volume_reader import grid_of, read_volume
from fmcib_module.core.conventions import AIR_HU, Flag, Irregular
from fmcib_module.core.errors import InputError, NotOneVolumeError, PixelDataError
from tests import damage
from tests.enhanced_ct import to_enhanced
from tests.phantoms import ORIENTATIONS, Lesion, write_study
from tests.shared import DATA, needs_shared


def a_ct(folder, shape_kji=(6, 9, 7), **options):
    return write_study(folder, **{"shape_kji": shape_kji, "lesions": (), "rtstruct": False, "seg": False, **options})


@pytest.fixture
def decoded(monkeypatch):
    """SOPInstanceUID and frame of every slice that is decoded, in order."""
    calls = []

    def spy(instances):
        for one, hu in zip(instances, decode_slices(instances), strict=True):
            calls.append((one.sop_instance_uid, one.frame))
            yield hu

    monkeypatch.setattr(volume_reader, "decode_slices", spy)
    return calls


def sitk_volume(folder):
    """Another implementation: SimpleITK's GDCM series reader; (K, J, I) and (4, 4)."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), matrix


@needs_shared
@pytest.mark.parametrize("name", ["ct-rtstruct-4dlung-113", "ct-rtstruct-sts/STS_003", "ct-rtstruct-sts/STS_025"])
def test_voxels_and_grid_are_those_of_simpleitk(name):
    volume = read_volume(DATA / name / "ct")
    voxels, matrix = sitk_volume(DATA / name / "ct")
    np.testing.assert_allclose(volume.affine, matrix, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(volume.voxels_hu, voxels)


@needs_shared
def test_single_frames_and_the_multi_frame_object_made_of_them_are_one_volume():
    folder = DATA / "ct-seg-sr-dcmqi" / "23x38x3"
    single, multi = read_volume(folder / "image"), read_volume(folder / "multiframe")
    assert single.grid == multi.grid
    assert single.grid.shape == (3, 38, 23)
    np.testing.assert_array_equal(single.voxels_hu, multi.voxels_hu)
    voxels, matrix = sitk_volume(folder / "image")
    np.testing.assert_array_equal(single.voxels_hu, voxels)
    np.testing.assert_allclose(single.affine, matrix, atol=1e-9)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("enhanced", [False, True], ids=["single", "enhanced"])
def test_a_phantom_comes_back_in_every_orientation_whatever_the_file_order(tmp_path, orientation, enhanced):
    rescale = [(1.0, -1024.0)] * 3 + [(0.5, -1000.0)] * 3
    study = a_ct(tmp_path, orientation=orientation, rescale=rescale)
    damage.shuffle_slices(study)
    if enhanced:
        to_enhanced(study)
    volume = read_volume(tmp_path)
    np.testing.assert_allclose(volume.affine, study.affine, atol=1e-9)
    np.testing.assert_array_equal(volume.voxels_hu, study.voxels_hu)


@pytest.mark.parametrize("enhanced", [False, True], ids=["single", "enhanced"])
def test_only_the_slices_asked_for_are_decoded_and_each_once(tmp_path, decoded, enhanced):
    study = a_ct(tmp_path)
    if enhanced:
        to_enhanced(study)
    volume = read_volume(tmp_path)
    assert decoded == []
    np.testing.assert_array_equal(volume.read_slab(1, 3), study.voxels_hu[1:3])
    assert len(decoded) == 2
    volume.read_slab(1, 3)[:] = 0
    np.testing.assert_array_equal(volume.read_slab(0, 4), study.voxels_hu[:4])
    assert len(decoded) == len(set(decoded)) == 4
    assert volume.voxels_hu.dtype == np.float32
    assert len(decoded) == len(set(decoded)) == 6


def test_threads_do_not_decode_a_slice_twice(tmp_path, decoded):
    study = a_ct(tmp_path)
    volume = read_volume(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        slabs = list(pool.map(lambda _: volume.read_slab(0, 6), range(8)))
    assert all(np.array_equal(slab, study.voxels_hu) for slab in slabs)
    assert len(decoded) == 6


def test_values_that_are_no_whole_numbers_are_kept_as_they_are(tmp_path):
    study = a_ct(tmp_path, rescale=(0.25, -1000.125))
    volume = read_volume(tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(volume.voxels_hu, study.voxels_hu)
    assert np.any(study.voxels_hu != np.rint(study.voxels_hu))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda study: damage.tilt(study, 10), "10.0 degrees (gantry tilt)"),
        (lambda study: damage.drop_slice(study, 3), "gap expected 2.500 mm, found 5.000 mm (1 missing"),
        (lambda study: damage.shift_slice(study, 2, 0.6), "gap expected 2.500 mm, found"),
    ],
    ids=["tilt", "gap", "shift"],
)
def test_irregular_slices_are_refused_before_any_pixel_is_read(tmp_path, decoded, break_it, words):
    break_it(a_ct(tmp_path))
    with pytest.raises(NotOneVolumeError) as caught:
        read_volume(tmp_path)
    assert words in caught.value.what
    assert decoded == []


def test_a_missing_slice_is_interpolated_when_the_settings_ask_for_it(tmp_path, decoded):
    study = a_ct(tmp_path)
    damage.drop_slice(study, 3)
    volume = read_volume(tmp_path, irregular=Irregular.RESAMPLE)
    assert volume.flags == (Flag.SPACING_RESAMPLED,)
    np.testing.assert_allclose(volume.affine, study.affine, atol=1e-9)
    middle = volume.read_slab(3, 4)[0]
    assert len(decoded) == 2
    np.testing.assert_allclose(middle, (study.voxels_hu[2] + study.voxels_hu[4]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(volume.voxels_hu[[0, 1, 2, 4, 5]], study.voxels_hu[[0, 1, 2, 4, 5]])
    assert len(decoded) == len(set(decoded)) == 5


def test_a_lesion_in_a_tilted_stack_is_where_it_was_scanned(tmp_path):
    degrees, ball = 15.0, Lesion(radius_mm=9.0, hu=900.0)
    study = a_ct(tmp_path, (24, 40, 32), spacing_mm=(1.0, 1.0, 2.0), lesions=(ball,))
    damage.tilt(study, degrees)
    volume = read_volume(tmp_path, irregular=Irregular.RESAMPLE)
    assert volume.flags == (Flag.GANTRY_TILT_RESAMPLED,)
    hu = volume.voxels_hu
    k, j, i = (float(axis.mean()) for axis in np.nonzero(hu > 450))
    found = (volume.affine @ [i, j, k, 1])[:3]
    # shearing moves the ball's centre with its own slice: along the column direction (y) by tan(tilt) x depth
    x, y, z = study.centroids[ball.name]
    depth = z - study.affine[2, 3]
    np.testing.assert_allclose(found, (x, y + depth * np.tan(np.radians(degrees)), z), atol=0.1)
    assert np.any(hu == AIR_HU)


@needs_shared
@pytest.mark.parametrize(
    ("name", "slices", "step_mm", "flags"),
    [
        ("gantry-tilt", 4, 5 * 0.970295726276, (Flag.GANTRY_TILT_RESAMPLED,)),
        ("missing-slice", 5, 5.0, (Flag.SPACING_RESAMPLED,)),
        ("tilt-and-missing-slice", 5, 0.7497, (Flag.GANTRY_TILT_RESAMPLED, Flag.SPACING_RESAMPLED)),
    ],
)
def test_real_irregular_stacks_are_resampled_and_flagged(name, slices, step_mm, flags):
    volume = read_volume(DATA / "edge-cases" / "geometry" / name, irregular=Irregular.RESAMPLE)
    assert volume.grid.shape[0] == slices
    assert volume.grid.spacing_mm[2] == pytest.approx(step_mm, abs=1e-4)
    assert volume.flags == flags
    axes = volume.affine[:3, :3] / volume.grid.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert volume.voxels_hu.min() >= AIR_HU


@needs_shared
@pytest.mark.parametrize("irregular", list(Irregular))
def test_slices_at_one_position_are_never_a_volume(irregular):
    with pytest.raises(NotOneVolumeError, match="all 4 slices lie at one position"):
        read_volume(DATA / "edge-cases" / "geometry" / "not-a-volume", irregular=irregular)


def test_a_regular_series_is_the_same_whether_or_not_resampling_is_allowed(tmp_path):
    a_ct(tmp_path)
    ((series,),) = [study.series for study in read_studies(tmp_path)]
    assert grid_of(series, Irregular.RESAMPLE) == grid_of(series, Irregular.REFUSE)


def test_a_damaged_slice_fails_when_it_is_read_and_not_before(tmp_path):
    study = a_ct(tmp_path)
    uid = damage.edit_slice(study, 4, PixelData=None)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.read_slab(0, 4), study.voxels_hu[:4])
    with pytest.raises(PixelDataError, match=uid):
        volume.read_slab(3, 6)


def test_a_path_that_holds_no_series_or_several_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected exactly one CT series, found 0"):
        read_volume(tmp_path / "empty")
    uids = [a_ct(tmp_path / "two" / f"{n}", seed=n).series_uid for n in range(2)]
    with pytest.raises(InputError, match="found 2") as caught:
        read_volume(tmp_path / "two")
    assert all(uid in caught.value.what for uid in uids)
    with pytest.raises(InputError, match="no such file"):
        read_volume(tmp_path / "nowhere")


def test_one_dicom_file_is_a_volume_of_one_slice_as_thick_as_it_says(tmp_path):
    study = a_ct(tmp_path)
    thickness = float(pydicom.dcmread(study.ct_paths[2]).SliceThickness)
    volume = read_volume(str(study.ct_paths[2]))
    assert volume.grid.spacing_mm[2] == thickness
    np.testing.assert_array_equal(volume.voxels_hu, study.voxels_hu[2:3])


@needs_shared
def test_image_files_are_read_by_path():
    path = DATA / "volumes-small" / "elastix_3DCT_lung_baseline_small.mha"
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels_hu, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    assert volume.grid.spacing_mm == pytest.approx((2.732, 2.732, 5.0), abs=1e-3)
