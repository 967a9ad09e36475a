"""Break a phantom study on disk, one way per function; each returns the SOPInstanceUID of what it touched."""

import math
from typing import Any

import numpy as np
import pydicom

from fmcib_module.adapters.study_writer import uid_from
from tests.phantoms import PhantomStudy


def edit_slice(study: PhantomStudy, k: int, **attributes: Any) -> str:
    """Set attributes of slice k; None deletes one."""
    ds = pydicom.dcmread(study.ct_paths[k])
    for keyword, value in attributes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    ds.save_as(study.ct_paths[k])
    return str(ds.SOPInstanceUID)


def drop_slice(study: PhantomStudy, k: int) -> str:
    """Delete slice k."""
    uid = str(pydicom.dcmread(study.ct_paths[k], stop_before_pixels=True).SOPInstanceUID)
    study.ct_paths[k].unlink()
    return uid


def shift_slice(study: PhantomStudy, k: int, mm: float) -> str:
    """Move slice k along the normal."""
    return _move(study, k, mm * study.affine[:3, 2] / np.linalg.norm(study.affine[:3, 2]))


def tilt(study: PhantomStudy, degrees: float) -> str:
    """Shear the stack along the column direction, as a tilted gantry does."""
    spacing_mm = np.linalg.norm(study.affine[:3, 2])
    column = study.affine[:3, 1] / np.linalg.norm(study.affine[:3, 1])
    for k in range(len(study.ct_paths)):
        uid = _move(study, k, math.tan(math.radians(degrees)) * spacing_mm * k * column)
    return uid


def duplicate_slice(study: PhantomStudy, k: int, *, new_uid: bool = True) -> str:
    """Copy slice k beside itself, as a new instance or as the same one (a file copied twice)."""
    ds = pydicom.dcmread(study.ct_paths[k])
    if new_uid:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid_from(ds.SOPInstanceUID, "duplicate")
    ds.save_as(study.ct_paths[k].with_name(f"duplicate-{k}.dcm"))
    return str(ds.SOPInstanceUID)


def swap_slices(study: PhantomStudy, a: int, b: int) -> str:
    """Exchange file names and InstanceNumbers of two slices: nothing but their positions tells the order."""
    first, second = (pydicom.dcmread(study.ct_paths[k]) for k in (a, b))
    first.InstanceNumber, second.InstanceNumber = second.InstanceNumber, first.InstanceNumber
    first.save_as(study.ct_paths[b])
    second.save_as(study.ct_paths[a])
    return str(first.SOPInstanceUID)


def shuffle_slices(study: PhantomStudy, seed: int = 0) -> None:
    """Permute all file names and InstanceNumbers."""
    order = np.random.default_rng(seed).permutation(len(study.ct_paths))
    datasets = [pydicom.dcmread(path) for path in study.ct_paths]
    for place, k in enumerate(order):
        datasets[k].InstanceNumber = place + 1
        datasets[k].save_as(study.ct_paths[place])


def _move(study: PhantomStudy, k: int, offset_lps: np.ndarray) -> str:
    ds = pydicom.dcmread(study.ct_paths[k], stop_before_pixels=True)
    position = np.asarray(ds.ImagePositionPatient, float) + offset_lps
    return edit_slice(study, k, ImagePositionPatient=[f"{v:.8f}" for v in position])
