"""A study of a DICOMweb server as INPUT: what may be written, and a real Orthanc as the server."""

import os
import subprocess
import sys

import pytest

from fmcib_module.core.errors import ConfigError, InputError, PeerError, PeerUnavailableError
from fmcib_module.pacs import web
from fmcib_module.pacs.dicomweb import WebStudy, fetched, parse_source
from fmcib_module.pacs.web import Access
from fmcib_module.pipeline import run
from fmcib_module.settings import Settings
from tests import phantoms
from tests.pacs.orthanc import PASSWORD, USER, Orthanc, free_port, needs_orthanc, orthanc
from tests.pacs.results import check_results

__all__ = ["orthanc"]

ACCESS = Access(USER, PASSWORD)


def ignore(*_: int) -> None:
    """No progress."""


def test_an_address_is_taken_apart():
    one = parse_source("dicomweb+https://host:8443/a/dicom-web?study=1.2.3&series=1.4&series=1.5")
    assert one == WebStudy("https://host:8443/a/dicom-web", "1.2.3", ("1.4", "1.5"))
    assert parse_source("dicomweb+http://127.0.0.1:8042/dicom-web/?study=1.2").url == "http://127.0.0.1:8042/dicom-web"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dicomweb+https://host/dicom-web", "no study"),
        ("dicomweb+https://host/dicom-web?study=1.2&study=1.3", "no study, or several"),
        ("dicomweb+https://host/dicom-web?study=../etc", "no UID"),
        ("dicomweb+https://host/dicom-web?study=1.2&patient=3", "patient"),
        ("dicomweb+https://user:s3cret@host/dicom-web?study=1.2", "holds credentials"),
        ("dicomweb+http://host/dicom-web?study=1.2", "not encrypted"),
        ("dicomweb+ftp://host/dicom-web?study=1.2", "no address"),
        ("dicomweb+https://host:port/?study=1.2", "no address"),
    ],
)
def test_an_address_that_is_wrong_or_unsafe_is_refused(text, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_source(text)
    assert "s3cret" not in str(error.value)


def test_store_needs_a_server(tmp_path):
    command = [sys.executable, "-m", "fmcib_module.cli", "run", str(tmp_path), str(tmp_path / "out"), "--store"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--store" in ended.stderr


def test_a_server_that_does_not_answer_is_asked_again_and_named(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    study = WebStudy(f"http://127.0.0.1:{free_port()}/dicom-web", "1.2.3")
    with pytest.raises(PeerUnavailableError, match=r"DICOMweb at 127\.0\.0\.1"), fetched(study, ACCESS, ignore):
        pass
    assert waits == [1, 2, 4][: web.ATTEMPTS - 1]


@needs_orthanc
@pytest.mark.slow
def test_run_reads_from_dicomweb_and_stores_there_what_it_writes_for_a_folder(orthanc: Orthanc, tmp_path):
    study = phantoms.write_study(tmp_path / "in")
    orthanc.send_folder(tmp_path / "in")
    source = f"dicomweb+{orthanc.dicomweb}?study={study.study_uid}"
    command = [sys.executable, "-m", "fmcib_module.cli", "run", source, str(tmp_path / "web"), "--store"]
    ended = subprocess.run(
        [*command, "--no-report", "--no-pictures"],
        env={**os.environ, "FMCIB_PACS_USER": USER, "FMCIB_PACS_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    run(tmp_path / "in", tmp_path / "out", settings=Settings(pictures=False, report=False))
    held = check_results(orthanc, tmp_path / "out", tmp_path)
    assert held == 1 + len(list((tmp_path / "out").rglob("*.dcm")))
    tables = [(tmp_path / name / "features.csv").read_bytes() for name in ("web", "out")]
    assert tables[0] == tables[1]


@needs_orthanc
@pytest.mark.slow
def test_what_the_server_refuses_or_does_not_hold_is_said(orthanc: Orthanc, tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False)
    orthanc.send_folder(tmp_path / "in")
    asked = WebStudy(orthanc.dicomweb, study.study_uid)
    with pytest.raises(PeerError, match="credentials"), fetched(asked, Access(USER, "wrong"), ignore):
        pass
    with pytest.raises(InputError, match="no such study"), fetched(WebStudy(asked.url, "1.2.3"), ACCESS, ignore):
        pass
    absent = WebStudy(asked.url, study.study_uid, ("1.2.3",))
    with pytest.raises(InputError, match=r"no series 1\.2\.3"), fetched(absent, ACCESS, ignore):
        pass
    elsewhere = WebStudy(f"{orthanc.url}/nothing", study.study_uid)
    with pytest.raises(PeerError, match="404"), fetched(elsewhere, ACCESS, ignore):
        pass
    told: list[tuple[int, int]] = []
    only_ct = WebStudy(asked.url, study.study_uid, (study.series_uid,))
    with fetched(only_ct, ACCESS, lambda done, total: told.append((done, total))) as folder:
        n_files = len(list(folder.rglob("*.dcm")))
    assert n_files == len(study.ct_paths) + 1
    assert told[-1] == (n_files, n_files)
    assert not folder.exists()
    without = phantoms.write_study(tmp_path / "ct", seed=5, seg=False, rtstruct=False)
    orthanc.send_folder(tmp_path / "ct")
    bare = WebStudy(asked.url, without.study_uid)
    with pytest.raises(InputError, match="no RTSTRUCT, SEG or report"), fetched(bare, ACCESS, ignore):
        pass
