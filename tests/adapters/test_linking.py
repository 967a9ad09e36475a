"""Which series an RTSTRUCT, SEG, seed table or mask is found to belong to, and what is said when there is none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.core.errors import FrameOfReferenceError, SeedNotFoundError
from tests import damage
from tests.phantoms import PhantomStudy, write_study
from tests.shared import DATA, needs_shared


def a_study(folder: Path, **options) -> PhantomStudy:
    return write_study(folder, shape_kji=(6, 12, 12), **options)


def links(folder: Path) -> dict[str, list[str]]:
    """output_name -> files of its ROI sources, relative to the folder."""
    return {
        series.output_name: sorted(source.path.relative_to(folder).as_posix() for source in series.roi_sources)
        for study in scan_folder(folder).studies
        for series in study.series
        if not series.skip_reason
    }


def edit(path: Path, change) -> None:
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path)


def name_series(uid: str):
    """Make an RTSTRUCT name another series, and no image."""

    def change(ds):
        series = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
        series.SeriesInstanceUID = uid
        series.ContourImageSequence = []

    return change


def drop_references(ds) -> None:
    del ds.ReferencedFrameOfReferenceSequence


def set_frame(uid: str):
    def change(ds):
        ds.FrameOfReferenceUID = uid
        for roi in ds.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = uid

    return change


def forget_contour_images(ds) -> None:
    for roi in ds.ROIContourSequence:
        for contour in roi.ContourSequence:
            contour.ContourImageSequence = []


def write_mask(path: Path, study: PhantomStudy, *, shift_mm: float = 0.0) -> None:
    """A mask on the phantom's grid (axial: identity direction)."""
    image = SimpleITK.GetImageFromArray(study.masks["GTV-1"].astype(np.uint8))
    image.SetSpacing([float(v) for v in np.linalg.norm(study.affine[:3, :3], axis=0)])
    image.SetOrigin([float(v) + shift_mm for v in study.affine[:3, 3]])
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def write_seeds(path: Path, **more: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"coordX": 12.0, "coordY": -7.0, "coordZ": 30.0, **more}]))


def test_rtstruct_and_seg_go_to_the_series_they_name_wherever_they_lie(tmp_path):
    studies = [a_study(tmp_path / f"p{n}", seed=n) for n in range(2)]
    (tmp_path / "objects").mkdir()
    for n, study in enumerate(studies):
        shutil.move(study.rtstruct_path, tmp_path / "objects" / f"RS{n}")
        shutil.move(study.seg_path, tmp_path / "objects" / f"SEG{n}")
    assert links(tmp_path) == {s.series_uid: [f"objects/RS{n}", f"objects/SEG{n}"] for n, s in enumerate(studies)}


def test_an_rtstruct_without_a_series_reference_goes_by_its_contours_images(tmp_path):
    study = a_study(tmp_path / "a", seg=False)
    other = a_study(tmp_path / "b", seed=1, rtstruct=False, seg=False)
    edit(study.rtstruct_path, drop_references)
    edit(study.rtstruct_path, set_frame("1.2.3.4"))
    edit(study.rtstruct_path, lambda ds: setattr(ds, "StudyInstanceUID", "1.2.3.5"))
    assert links(tmp_path) == {study.series_uid: ["a/rtstruct.dcm"], other.series_uid: []}


def test_an_rtstruct_that_names_an_absent_series_goes_by_frame_of_reference(tmp_path):
    study = a_study(tmp_path / "a", seg=False)
    a_study(tmp_path / "b", seed=1, rtstruct=False, seg=False)
    edit(study.rtstruct_path, name_series("1.2.3.4.5"))
    edit(study.rtstruct_path, forget_contour_images)
    assert links(tmp_path)[study.series_uid] == ["a/rtstruct.dcm"]


def test_without_any_reference_the_only_ct_of_its_study_is_taken(tmp_path):
    study = a_study(tmp_path / "a", seg=False)
    a_study(tmp_path / "b", seed=1, rtstruct=False, seg=False)
    for change in (drop_references, forget_contour_images, set_frame("1.2.3.4")):
        edit(study.rtstruct_path, change)
    assert links(tmp_path)[study.series_uid] == ["a/rtstruct.dcm"]


def test_an_rtstruct_of_another_study_and_frame_is_a_problem_that_names_it(tmp_path):
    study = a_study(tmp_path / "a", seg=False)
    shutil.rmtree(tmp_path / "a" / "ct")
    a_study(tmp_path / "b", seed=1, rtstruct=False, seg=False)
    (problem,) = scan_folder(tmp_path).problems
    assert isinstance(problem.error, FrameOfReferenceError)
    assert (problem.path, problem.uid) == ("a/rtstruct.dcm", pydicom.dcmread(study.rtstruct_path).SOPInstanceUID)
    assert study.frame_of_reference_uid in problem.error.what
    assert study.series_uid in problem.error.what


def test_an_rtstruct_on_a_skipped_series_goes_to_the_ct_in_its_frame_or_is_a_problem(tmp_path):
    study = a_study(tmp_path, seg=False)
    for k in range(6):
        damage.edit_slice(study, k, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    (problem,) = scan_folder(tmp_path).problems
    assert isinstance(problem.error, SeedNotFoundError)
    assert f"{study.series_uid}, which is skipped (Modality MR is not CT)" in problem.error.what


def test_of_two_acquisitions_the_one_with_the_images_is_taken(tmp_path):
    study = a_study(tmp_path, seg=False)
    for k in range(6):
        damage.duplicate_slice(study, k)
        path = study.ct_paths[k].with_name(f"duplicate-{k}.dcm")
        edit(path, lambda ds: setattr(ds, "AcquisitionNumber", 2))
    assert links(tmp_path) == {study.series_uid: ["rtstruct.dcm"], f"{study.series_uid}.acq2": []}


def test_a_copy_of_an_rtstruct_is_taken_once(tmp_path):
    study = a_study(tmp_path, seg=False)
    shutil.copy(study.rtstruct_path, tmp_path / "a_copy.dcm")
    assert links(tmp_path) == {study.series_uid: ["a_copy.dcm"]}


@needs_shared
@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("rtstruct-missing-slices", ["rtss.dcm"]),
        (
            "seg-16x16",
            [
                f"seg_image_ct_{kind}.dcm"
                for kind in ("binary", "binary_fractional", "binary_overlap", "true_fractional")
            ],
        ),
    ],
)
def test_real_objects_with_bad_references_still_find_their_series(folder, files):
    assert list(links(DATA / "edge-cases" / folder).values()) == [files]
    assert scan_folder(DATA / "edge-cases" / folder).problems == ()


@needs_shared
def test_of_two_real_rtstructs_with_one_uid_the_second_is_a_problem():
    folder = DATA / "edge-cases" / "rtstruct-bad-refs"
    assert list(links(folder).values()) == [["invalid_reference_rt.dcm", "rt.dcm"]]
    assert [problem.path for problem in scan_folder(folder).problems] == ["non_existent_reference_rt.dcm"]


@needs_shared
def test_the_dcmqi_objects_go_to_their_series_and_those_without_images_are_problems():
    root = DATA / "ct-seg-sr-dcmqi"
    assert sorted(files for files in links(root).values() if files) == [
        ["23x38x3/seg/label.seg"],
        ["liver.dcm", "partial_overlaps.dcm"],
    ]
    problems = {problem.path: problem.error for problem in scan_folder(root).problems}
    assert set(problems) == {"23x38x3/nrrd/label.nrrd", "sr/seg.dcm"}
    assert isinstance(problems["sr/seg.dcm"], FrameOfReferenceError)


def test_a_table_goes_to_the_series_named_inside(tmp_path):
    studies = [a_study(tmp_path / f"p{n}", seed=n, rtstruct=False, seg=False) for n in range(2)]
    (tmp_path / "seeds.csv").write_text(
        "SeriesInstanceUID,coordX,coordY,coordZ\n" + "".join(f"{s.series_uid},12,-7,30\n" for s in studies)
    )
    assert links(tmp_path) == {study.series_uid: ["seeds.csv"] for study in studies}


def test_a_table_that_also_names_an_absent_series_says_so(tmp_path):
    study = a_study(tmp_path / "p", rtstruct=False, seg=False)
    (tmp_path / "seeds.csv").write_text(
        f"SeriesInstanceUID,coordX,coordY,coordZ\n{study.series_uid},12,-7,30\n1.2.3.9,1,2,3\n"
    )
    assert links(tmp_path) == {study.series_uid: ["seeds.csv"]}
    (problem,) = scan_folder(tmp_path).problems
    assert "1 of 2 series that this seed table names are not in the input as CT: 1.2.3.9" in problem.error.what


@pytest.mark.parametrize("place", ["{uid}.json", "{uid}/centroids.json", "p0/centroids.json", "p0/ct/centroids.json"])
def test_a_table_without_series_goes_by_its_name_or_place(tmp_path, place):
    studies = [a_study(tmp_path / f"p{n}", seed=n, rtstruct=False, seg=False) for n in range(2)]
    place = place.format(uid=studies[0].series_uid)
    write_seeds(tmp_path / place)
    assert links(tmp_path) == {studies[0].series_uid: [place], studies[1].series_uid: []}


def test_a_table_anywhere_goes_to_the_only_ct(tmp_path):
    study = a_study(tmp_path / "deep" / "ct", rtstruct=False, seg=False)
    write_seeds(tmp_path / "seeds" / "x" / "y" / "centroids.json")
    assert links(tmp_path) == {study.series_uid: ["seeds/x/y/centroids.json"]}


def test_a_table_that_could_belong_to_several_series_is_a_problem(tmp_path):
    for n in range(2):
        a_study(tmp_path / f"p{n}", seed=n, rtstruct=False, seg=False)
    write_seeds(tmp_path / "centroids.json")
    (problem,) = scan_folder(tmp_path).problems
    assert (problem.path, type(problem.error)) == ("centroids.json", SeedNotFoundError)
    assert "add the SeriesInstanceUID" in problem.error.fix


def test_a_mask_beside_the_only_dicom_ct_of_its_folder_goes_to_it(tmp_path):
    studies = [a_study(tmp_path / f"p{n}", seed=n, rtstruct=False, seg=False) for n in range(2)]
    write_mask(tmp_path / "p0" / "reference_mask.nii.gz", studies[0])
    write_mask(tmp_path / "p1" / "masks" / "GTV.nrrd", studies[1])
    assert links(tmp_path) == {
        studies[0].series_uid: ["p0/reference_mask.nii.gz"],
        studies[1].series_uid: ["p1/masks/GTV.nrrd"],
    }


def test_a_mask_somewhere_else_in_space_is_a_problem(tmp_path):
    study = a_study(tmp_path, rtstruct=False, seg=False)
    write_mask(tmp_path / "mask.nrrd", study, shift_mm=500.0)
    (problem,) = scan_folder(tmp_path).problems
    assert "a CT that it does not overlap" in problem.error.what


def test_a_mask_beside_nothing_or_damaged_is_a_problem(tmp_path):
    study = a_study(tmp_path / "a", rtstruct=False, seg=False)
    write_mask(tmp_path / "elsewhere" / "deep" / "mask.nrrd", study)
    (tmp_path / "a" / "label.nrrd").write_bytes(b"damaged")
    problems = {problem.path: problem.error.what for problem in scan_folder(tmp_path).problems}
    assert "not exactly one CT" in problems["elsewhere/deep/mask.nrrd"]
    assert "cannot be read" in problems["a/label.nrrd"]


@needs_shared
@pytest.mark.parametrize("folder", ["volumes-sts", "volumes-pyradiomics"])
def test_published_image_files_find_their_masks(folder):
    found = links(DATA / folder)
    assert len(found) == {"volumes-sts": 10, "volumes-pyradiomics": 2}[folder]
    for name, files in found.items():
        stem = name.rsplit("_", 1)[0]
        assert [file.rsplit("_", 1)[0] for file in files] == [stem]


def test_sources_that_are_files_are_called_by_their_path_in_the_input(tmp_path):
    a_study(tmp_path / "p", rtstruct=False, seg=False)
    write_seeds(tmp_path / "p" / "centroids.json")
    ((series,),) = [study.series for study in scan_folder(tmp_path).studies]
    assert [source.uid for source in series.roi_sources] == ["p/centroids.json"]


def test_contours_are_not_read_to_find_the_series(tmp_path):
    study = a_study(tmp_path, seg=False)
    whole = study.rtstruct_path.read_bytes()
    contours = whole.index(b"\x06\x30\x39\x00")  # ROIContourSequence
    study.rtstruct_path.write_bytes(whole[: contours + 8] + b"\xff" * 500)
    assert links(tmp_path) == {study.series_uid: ["rtstruct.dcm"]}
    assert scan_folder(tmp_path).problems == ()
