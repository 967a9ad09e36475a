"""Image files against headers written by hand, and masks against the images that they belong to."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from fmcib_module.adapters import image_files
from fmcib_module.adapters.image_files import read_image_grid, read_image_volume, read_mask
from fmcib_module.adapters.image_folder import image_of_mask, image_series, is_mask
from fmcib_module.core.errors import InputError, PixelDataError
from tests.shared import DATA, needs_shared

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])  # columns: i, j, k directions, LPS


def write_image(path: Path, voxels: np.ndarray, *, direction=OBLIQUE, spacing=(0.7, 0.8, 2.5), origin=(-9, 8, 50)):
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetDirection([float(v) for v in direction.ravel()])
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in origin])
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
    return path


def some_hu(shape=(4, 5, 6)) -> np.ndarray:
    return np.random.default_rng(1).integers(-1024, 2000, shape).astype(np.int16)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_voxels_and_lps_affine(tmp_path, suffix):
    hu = some_hu()
    volume = read_image_volume(write_image(tmp_path / f"ct{suffix}", hu), "ct")
    expected = np.eye(4)
    expected[:3, :3] = OBLIQUE * (0.7, 0.8, 2.5)
    expected[:3, 3] = (-9, 8, 50)
    np.testing.assert_allclose(volume.affine, expected, rtol=0, atol=2e-6 if ".nii" in suffix else 1e-12)
    np.testing.assert_array_equal(volume.voxels_hu, hu)
    np.testing.assert_array_equal(volume.read_slab(1, 3), hu[1:3])
    assert volume.voxels_hu.dtype == np.float32


def test_a_nifti_written_by_hand_is_turned_from_ras_to_lps(tmp_path):
    header = bytearray(352)
    header[:4] = (348).to_bytes(4, "little")
    header[40:48] = np.array([3, 2, 3, 4], "<i2").tobytes()
    header[70:74] = np.array([4, 16], "<i2").tobytes()  # int16
    header[76:92] = np.array([1, 1, 2, 3], "<f4").tobytes()
    header[108:112] = np.array([352], "<f4").tobytes()
    header[112:116] = np.array([1], "<f4").tobytes()
    header[254:256] = np.array([1], "<i2").tobytes()  # sform, RAS
    header[280:328] = np.array([[1, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30]], "<f4").tobytes()
    header[344:348] = b"n+1\0"
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(gzip.compress(bytes(header) + np.arange(24, dtype="<i2").tobytes()))
    volume = read_image_volume(path, "ct")
    expected = [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-6)
    np.testing.assert_array_equal(volume.voxels_hu, np.arange(24).reshape(4, 3, 2))


def test_voxels_are_read_once_and_only_when_they_are_asked_for(tmp_path, monkeypatch):
    path, reads = write_image(tmp_path / "ct.nrrd", some_hu()), []
    read_voxels = image_files._read_voxels
    monkeypatch.setattr(image_files, "_read_voxels", lambda path: reads.append(path) or read_voxels(path))
    volume = read_image_volume(path, "ct")
    assert reads == []
    volume.read_slab(0, 1)[:] = 0  # a caller's changes do not reach the next reader
    np.testing.assert_array_equal(volume.read_slab(0, 4), some_hu())
    assert len(reads) == 1


def test_a_4d_file_with_one_volume_is_3d_and_with_two_is_refused(tmp_path):
    for count in (1, 2):
        image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(some_hu()) for _ in range(count)])
        SimpleITK.WriteImage(image, str(tmp_path / f"{count}.nrrd"))
    assert read_image_volume(tmp_path / "1.nrrd", "ct").voxels_hu.shape == (4, 5, 6)
    with pytest.raises(InputError, match=r"found an image of size \(6, 5, 4, 2\)"):
        read_image_grid(tmp_path / "2.nrrd")


def test_a_2d_a_colour_and_a_damaged_image_are_refused_by_name(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(some_hu()[0]), str(tmp_path / "flat.mha"))
    colour = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colour, str(tmp_path / "colour.mha"))
    (tmp_path / "damaged.nrrd").write_bytes(b"not an image")
    for name, words in (("flat", "one 3-D volume"), ("colour", "3 components"), ("damaged", "cannot be read")):
        path = next(tmp_path.glob(f"{name}.*"))
        with pytest.raises(InputError, match=words) as caught:
            read_image_grid(path)
        assert caught.value.where == path.name


def test_a_truncated_image_fails_when_its_voxels_are_read(tmp_path):
    path = write_image(tmp_path / "ct.nrrd", some_hu())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PixelDataError, match=r"ct\.nrrd"):
        read_image_volume(path, "ct").read_slab(0, 1)


def test_a_mask_keeps_its_labels_and_geometry(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1, 2, 3], labels[2, 2, 2] = 1, 7
    read, affine = read_mask(write_image(tmp_path / "mask.nii.gz", labels.astype(np.float32)))
    np.testing.assert_array_equal(read, labels)
    assert np.issubdtype(read.dtype, np.integer)
    np.testing.assert_allclose(affine[:3, 3], (-9, 8, 50), atol=1e-6)


def test_a_mask_of_fractions_is_refused(tmp_path):
    with pytest.raises(InputError, match="not whole numbers"):
        read_mask(write_image(tmp_path / "mask.nrrd", np.full((2, 2, 2), 0.5, np.float32)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/GTV-1.nii.gz", True),
        ("a/gtvp.nrrd", True),
        ("masks/tumor_left.nii.gz", True),
        ("labelsTr/case_001.nii.gz", True),
        ("a/lung1_label.nrrd", True),
        ("a/STS_006_mask.nii.gz", True),
        ("a/reference_mask.nii.gz", True),
        ("a/ct-seg.mha", True),
        ("a/ctSegmentation.nii", True),
        ("a/CT.nii.gz", False),
        ("a/lung1_image.nrrd", False),
        ("a/lesion_012_ct.nii.gz", False),
        ("a/totalsegmentator_example_ct.nii.gz", False),
        ("imagesTr/case_001.nii.gz", False),
        ("a/segovia.nii.gz", False),
    ],
)
def test_masks_are_told_from_images_by_name(name, expected):
    assert is_mask(Path(name), Path()) is expected


def test_the_input_folders_own_name_makes_nothing_a_mask():
    assert not is_mask(Path("masks/case_001.nii.gz"), Path("masks"))


@pytest.mark.parametrize(
    ("mask", "images", "expected"),
    [
        ("p/masks/GTV.nii.gz", ["p/CT.nii.gz", "q/CT.nii.gz"], "p/CT.nii.gz"),
        ("p/lung1_label.nrrd", ["p/lung1_image.nrrd", "p/lung2_image.nrrd"], "p/lung1_image.nrrd"),
        ("STS_006_mask.nii.gz", ["STS_006_ct.nii.gz", "STS_010_ct.nii.gz"], "STS_006_ct.nii.gz"),
        ("labelsTr/x_01.nii.gz", ["imagesTr/x_01.nii.gz", "imagesTr/x_02.nii.gz"], "imagesTr/x_01.nii.gz"),
        ("p/mask.nii.gz", ["p/a_ct.nii.gz", "p/b_ct.nii.gz"], None),
        ("p/mask.nii.gz", ["q/ct.nii.gz"], None),
    ],
)
def test_a_mask_belongs_to_the_image_beside_or_above_it_with_the_likest_name(mask, images, expected):
    found = image_of_mask(Path(mask), [Path(image) for image in images], Path())
    assert found == (None if expected is None else Path(expected))


def test_images_are_called_by_their_folder_where_they_are_alone_in_it():
    paths = ["lung_001/CT.nii.gz", "both/a.nii.gz", "both/b.nrrd", "top.mha", "both/a.nrrd", "x/y z/ct.nii"]
    series = {str(s.image_path): s.uid for s in image_series([Path(p) for p in paths], Path())}
    assert series == {
        "lung_001/CT.nii.gz": "lung_001",
        "both/a.nii.gz": "both_a",
        "both/a.nrrd": "both_a.2",
        "both/b.nrrd": "both_b",
        "top.mha": "top",
        "x/y z/ct.nii": "x_y_z",
    }


@needs_shared
def test_the_published_headers_are_read_as_their_publishers_state_them():
    lung1 = read_image_grid(DATA / "volumes-pyradiomics" / "lung1_image.nrrd")
    assert lung1.shape == (48, 512, 512)
    np.testing.assert_allclose(lung1.spacing_mm, (0.5703125, 0.5703125, 5.0), rtol=0, atol=1e-12)
    labels, affine = read_mask(DATA / "volumes-pyradiomics" / "lung1_label.nrrd")
    assert np.count_nonzero(labels) == 837
    np.testing.assert_allclose(affine, lung1.matrix)
