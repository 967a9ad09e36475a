"""Ways to harm a study on disk, and the list of all; each takes a generator and the study's folder."""

import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from tests.fuzz.dicom_mutations import (
    MB,
    dicom_file,
    dicom_files,
    flip_bits,
    lie_about_a_length,
    long_contour,
    negative_spacing,
    nest_deeply,
    odd_counts,
    odd_numbers,
    odd_text,
    odd_uids,
    private_elements,
    truncate,
    truncate_at_element,
)

Mutation = Callable[[Random, Path], None]


def swap_files(rng: Random, folder: Path) -> None:
    """Copy one file over another, beside it, or let one be empty or gone."""
    files = dicom_files(folder)
    a, b = rng.choice(files), rng.choice(files)
    what = rng.randrange(4)
    if what == 0 and a != b:
        shutil.copyfile(a, b)
    elif what == 1:
        shutil.copyfile(
            a, folder / rng.choice(("copy", "copy.txt", "DICOMDIR", "copy.nii.gz", "copy.json", "copy.mha"))
        )
    elif what == 2:
        a.write_bytes(b"")
    else:
        a.unlink()


def strange_entries(rng: Random, folder: Path) -> None:
    """Links out of the folder, to itself and to nothing; pipes; folders with a file's name; unreadable files."""
    name = folder / rng.choice(("odd.dcm", "odd.nii.gz", "odd.json", "odd"))
    what = rng.randrange(6)
    if what == 0:
        name.symlink_to("/etc/hostname")
    elif what == 1:
        name.symlink_to(folder, target_is_directory=True)
    elif what == 2:
        name.symlink_to("nowhere")
    elif what == 3:
        os.mkfifo(name)
    elif what == 4:
        name.mkdir()
    else:
        path = dicom_file(rng, folder)
        path.chmod(0)


def dicomdir_outside(rng: Random, folder: Path) -> None:
    """A DICOMDIR-like object whose records point out of the folder."""
    ds = pydicom.dcmread(sorted((folder / "ct").glob("*.dcm"))[0], stop_before_pixels=True)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    record = Dataset()
    record.ReferencedFileID = rng.choice((["..", "..", "etc", "passwd"], ["/etc/passwd"], ["A" * 300]))
    ds.DirectoryRecordSequence = [record]
    ds.save_as(folder / "DICOMDIR")


def seed_table(rng: Random, folder: Path) -> None:
    """Seed tables and markups with values that are no coordinates."""
    number = rng.choice(("1", "nan", "1e999", "", "x", "-0", "9" * 400, "=cmd", "1;2", "\x00"))
    label = rng.choice(("a", "../../x", "=1+1", "\ufffe", "x" * 100_000, '"'))
    what = rng.randrange(5)
    if what == 0:
        (folder / "s.csv").write_text(f"coordX,coordY,coordZ,Mhub ROI\n{number},2,3,{label}\n12,-7,30,ok\n")
    elif what == 1:
        point: Any = {
            "coordX": rng.choice((number, None, [], {}, True, 12)),
            "coordY": -7,
            "coordZ": 30,
            "label": label,
        }
        (folder / "s.json").write_text(json.dumps(rng.choice(([point], {"a": point}, point, [[point]], None, 7))))
    elif what == 2:
        position = [rng.choice((12.0, "x", None, 1e308))] * rng.choice((0, 2, 3, 4))
        control: Any = {"label": label, "position": position}
        markup: Any = {
            "type": rng.choice(("Fiducial", "Line", 7)),
            "coordinateSystem": rng.choice(("LPS", "RAS", "XYZ", 0)),
        }
        markup["controlPoints"] = rng.choice(([control], control, None, [None]))
        (folder / "s.mrk.json").write_text(json.dumps({"markups": rng.choice(([markup], markup, [7]))}))
    elif what == 3:
        (folder / "s.json").write_text("[" * rng.choice((10, 100_000)) + rng.choice(("", "]" * 10)))
    else:
        (folder / "s.fcsv").write_text(f"# columns = id,x,y,z\n{label},{number},2,3\n,,,\n")


def image_file(rng: Random, folder: Path) -> None:
    """NIfTI, NRRD and MHA whose headers claim more than the file holds, gzip bombs among them."""
    size = rng.choice((0, 1, 3, 30_000, 2**31))
    what = rng.randrange(4)
    if what == 0:
        header = f"NRRD0004\ntype: {rng.choice(('short', 'double', 'block'))}\ndimension: 3\nsizes: {size} 30 30\n"
        encoding = rng.choice(("raw", "gzip", "hex"))
        header += f"space: left-posterior-superior\nencoding: {encoding}\nendian: little\n"
        header += rng.choice(("", "data file: ../../../etc/passwd\n", "data file: LIST\n"))
        (folder / "i.nrrd").write_bytes(header.encode() + b"\n" + rng.randbytes(200))
    elif what == 1:
        header = f"ObjectType = Image\nNDims = 3\nDimSize = {size} 30 30\nElementType = MET_SHORT\n"
        header += f"ElementDataFile = {rng.choice(('LOCAL', '../../../etc/passwd', 'i.raw'))}\n"
        (folder / rng.choice(("i.mha", "i.mhd"))).write_bytes(header.encode() + rng.randbytes(200))
    else:
        nifti = bytearray(348)
        struct.pack_into("<i", nifti, 0, 348)
        struct.pack_into("<8h", nifti, 40, 3, min(size, 32767), 30, 30, 1, 1, 1, 1)
        struct.pack_into("<hh", nifti, 70, rng.choice((4, 16, 0, 2048)), 16)
        struct.pack_into("<8f", nifti, 76, 1, rng.choice((1.0, float("nan"), 0.0, -1.0)), 1, 1, 0, 0, 0, 0)
        struct.pack_into("<f", nifti, 108, rng.choice((352.0, -5.0, 1e30)))
        nifti[344:348] = b"n+1\x00"
        bomb = bytes(rng.choice((100, 64 * MB))) if what == 2 else rng.randbytes(500)
        (folder / "i.nii.gz").write_bytes(gzip.compress(bytes(nifti) + b"\0" * 4 + bomb, compresslevel=1))


MUTATIONS: Final[tuple[Mutation, ...]] = (
    truncate,
    truncate_at_element,
    flip_bits,
    lie_about_a_length,
    odd_numbers,
    odd_uids,
    odd_counts,
    odd_text,
    negative_spacing,
    nest_deeply,
    long_contour,
    private_elements,
    swap_files,
    strange_entries,
    dicomdir_outside,
    seed_table,
    image_file,
)
