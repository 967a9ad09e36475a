"""What a folder may hold besides good files: damaged ones, links, pipes, nothing; and what is said of it."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.core.errors import InputError
from tests.adapters.test_dicom_import import a_ct, all_series, the_series


def test_damaged_and_empty_dicom_files_are_problems_and_do_not_stop_the_rest(tmp_path):
    study = a_ct(tmp_path)
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("this is not DICOM " * 20)
    start = study.ct_paths[0].read_bytes()[:250]
    (tmp_path / "cut").write_bytes(start)
    (tmp_path / "dangling.dcm").symlink_to(tmp_path / "nowhere")
    scan = scan_folder(tmp_path)
    assert [p.path for p in scan.problems] == ["cut", "dangling.dcm", "empty.dcm", "text.dcm"]
    assert all(isinstance(p.error, InputError) and str(tmp_path) not in str(p.error) for p in scan.problems)
    assert len(the_series(tmp_path).instances) == 5


def test_a_file_that_may_not_be_opened_is_a_problem(tmp_path, monkeypatch):
    study = a_ct(tmp_path)
    opened = Path.open

    def refuse(self, *args, **kwargs):
        if self == study.ct_paths[1]:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    (problem,) = scan_folder(tmp_path).problems
    assert (problem.path, "PermissionError" in problem.error.what) == ("ct/0002.dcm", True)


def test_fifos_and_sockets_are_never_opened(tmp_path):
    a_ct(tmp_path)
    os.mkfifo(tmp_path / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        scan = scan_folder(tmp_path)
    assert scan.ignored_files == 2
    assert len(scan.studies) == 1


def test_loops_of_links_end_and_linked_folders_are_read_once(tmp_path):
    cohort, elsewhere = tmp_path / "cohort", tmp_path / "elsewhere"
    a_ct(cohort / "here", seed=1)
    a_ct(elsewhere, seed=2)
    (cohort / "here" / "up").symlink_to(cohort)
    (cohort / "outwards").symlink_to(tmp_path)
    (cohort / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(cohort)
    series = all_series(cohort)
    assert sorted(len(s.instances) for s in series) == [5, 5]
    assert all(s.flags == () for s in series)


def test_an_output_folder_inside_the_input_is_left_out(tmp_path):
    a_ct(tmp_path / "in", seed=1)
    a_ct(tmp_path / "out", seed=2)
    assert len(scan_folder(tmp_path, exclude=tmp_path / "out").studies) == 1


def test_an_empty_folder_holds_nothing_and_a_missing_one_is_an_error(tmp_path):
    assert scan_folder(tmp_path).studies == ()
    with pytest.raises(InputError, match="no such file or folder"):
        scan_folder(tmp_path / "nowhere")


def test_a_single_file_is_a_folder_of_one(tmp_path):
    study = a_ct(tmp_path)
    assert len(the_series(study.ct_paths[0]).instances) == 1


def test_progress_counts_every_file(tmp_path):
    a_ct(tmp_path)
    told = []
    scan_folder(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_nothing_of_the_patient_is_in_what_is_found(tmp_path):
    study = a_ct(tmp_path, patient_name="SECRET^NAME", patient_id="SECRET-7")
    shutil.copy(study.ct_paths[0], tmp_path / "cut.dcm")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:700])
    assert "SECRET" not in repr(scan_folder(tmp_path))
