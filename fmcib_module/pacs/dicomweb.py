"""A study of a DICOMweb server -> a folder for a run, by QIDO-RS and WADO-RS, and results back by STOW-RS."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from pydicom.errors import InvalidDicomError

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.errors import ConfigError, InputError, PeerError, PeerUnavailableError
from fmcib_module.core.ledger import Ledger
from fmcib_module.pacs.delivery import StowSender
from fmcib_module.pacs.node_settings import Destination, Protocol
from fmcib_module.pacs.orthanc import IMAGES, REPORTS, ROI_SOURCES
from fmcib_module.pacs.received import ROI_NAMES, marks_lesions
from fmcib_module.pacs.web import TIMEOUT_S, Access, check_url, open_session, translated_errors, with_retries
from fmcib_module.pacs.worker import outcome_of

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

PREFIX: Final = "dicomweb+"

_UID = re.compile(r"[0-9.]{1,64}")
_MODALITY, _SERIES_UID, _COUNT = "00080060", "0020000E", "00201209"
_FIX: Final = "ask for another study"
_AS_STORED: Final = (("application/dicom", "*"),)
"""In the transfer syntax that the server holds, so that nothing is computed on the way."""

Progress = Callable[[int, int], None]
"""Called with (objects fetched, objects in all)."""


@dataclass(frozen=True, slots=True)
class WebStudy:
    """What to fetch.

    Attributes:
        url: Of the DICOMweb service.
        study_uid: StudyInstanceUID.
        series_uids: CT, ROI or report series to take instead of all of their kind; empty takes all.
    """

    url: str
    study_uid: str
    series_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _WebSeries:
    uid: str
    modality: str
    count: int


def parse_source(text: str) -> WebStudy:
    """Take `dicomweb+https://HOST/PATH?study=UID[&series=UID...]` apart; http is for this machine alone.

    Raises:
        ConfigError: Something is missing, unknown, or does not belong there.
    """
    fix = f"write {PREFIX}https://HOST/PATH?study=UID, and &series=UID if only some are meant"
    address, _, query = text.removeprefix(PREFIX).partition("?")
    url = check_url(address)
    given = parse_qs(query, keep_blank_values=True)
    if unknown := sorted(set(given) - {"study", "series"}):
        raise ConfigError(f"unknown part(s) {', '.join(unknown)}", "INPUT", fix)
    studies, series = given.get("study", []), given.get("series", [])
    if len(studies) != 1:
        raise ConfigError("the address names no study, or several", "INPUT", fix)
    for uid in (*studies, *series):
        if not _UID.fullmatch(uid):
            raise ConfigError("this is no UID (PS3.5 section 9.1)", "INPUT", fix)
    return WebStudy(url, studies[0], tuple(series))


@contextmanager
def fetched(source: WebStudy, access: Access, progress: Progress) -> Iterator[Path]:
    """A study's CT and what is drawn on it, in a folder that goes when the block ends.

    One object is in memory at a time. What is drawn comes first: without any, no CT is fetched.

    Raises:
        ConfigError: The package that speaks DICOMweb is not installed.
        InputError: The study has no CT or nothing drawn on it, or does not hold a series that was asked for.
        PeerError: The server refuses, or answers what it should not.
    """
    client = _client(source, access)
    where = f"DICOMweb at {urlsplit(source.url).hostname}"
    found = with_retries(lambda: _search(client, source, where), time.sleep)
    wanted = _choose(found, source)
    total, done, marked = sum(series.count for series in wanted), 0, False

    def told(count: int) -> None:
        progress(done + count, total)

    with tempfile.TemporaryDirectory(prefix="fmcib-") as folder:
        for number, series in enumerate(wanted):
            if series.modality in IMAGES and not marked:
                raise _without_rois(source)
            fetch = _Fetch(client, source.study_uid, series, Path(folder) / f"{number:04d}", where, told)
            done += with_retries(fetch, time.sleep)
            marked = (
                marked
                or series.modality in ROI_SOURCES
                or any(marks_lesions(path.read_bytes()) for path in fetch.folder.glob("*.dcm"))
            )
        yield Path(folder)


def store(source: WebStudy, credentials: Path | None, output: Path, ledger: Ledger) -> int:
    """Send a run's SEG and SR to the server that its study came from.

    Returns:
        How many.

    Raises:
        PeerError: It did not take one.
    """
    host = urlsplit(source.url).hostname or ""
    destination = Destination(host, Protocol.STOW, url=source.url, credentials=str(credentials or ""))
    results = sorted(outcome_of(ledger).results, key=lambda name: (not name.endswith(".seg.dcm"), name))
    for result, refused in zip(results, StowSender(destination).send([output / one for one in results]), strict=True):
        if refused:
            raise PeerError(f"result not stored: {refused}", f"DICOMweb at {host}, {result}", "run it again")
    return len(results)


def _client(source: WebStudy, access: Access) -> "DICOMwebClient":
    try:
        from dicomweb_client import DICOMwebClient
    except ImportError as error:
        fix = "pip install 'fmcib-module[pacs]'"
        raise ConfigError("package dicomweb-client is not installed", "INPUT", fix) from error
    client = DICOMwebClient(source.url, session=open_session(access), timeout=TIMEOUT_S, permissive_uid=True)
    client.set_http_retry_params(retry=False)  # `with_retries` does, and knows our errors
    return client


def _search(client: "DICOMwebClient", source: WebStudy, where: str) -> list[_WebSeries]:
    with _translated(where):
        answer = client.search_for_series(source.study_uid, fields=["Modality", "NumberOfSeriesRelatedInstances"])
    found = [
        _WebSeries(_value(one, _SERIES_UID), _value(one, _MODALITY), int(_value(one, _COUNT) or 0)) for one in answer
    ]
    if not found:
        raise InputError("there is no such study", f"{where}, StudyInstanceUID {source.study_uid}", "check the UID")
    return sorted(found, key=lambda one: one.uid)


def _choose(found: Sequence[_WebSeries], source: WebStudy) -> list[_WebSeries]:
    """RTSTRUCT, SEG and reports, then CT; of each group only the named ones where any is named."""
    where = f"StudyInstanceUID {source.study_uid}"
    if absent := sorted(set(source.series_uids) - {one.uid for one in found}):
        raise InputError(f"the study has no series {absent[0]}", where, "check the UID")
    chosen: list[_WebSeries] = []
    for kinds in ((*ROI_SOURCES, *REPORTS), IMAGES):
        group = [one for one in found if one.modality in kinds]
        if not group:
            raise InputError("the study has no CT series", where, _FIX) if kinds == IMAGES else _without_rois(source)
        chosen += [one for one in group if one.uid in source.series_uids] or group
    return chosen


def _without_rois(source: WebStudy) -> InputError:
    return InputError(f"the study has no {ROI_NAMES}", f"StudyInstanceUID {source.study_uid}", _FIX)


@dataclass(frozen=True, slots=True)
class _Fetch:
    """Fetches one series; may be called again after it broke off."""

    client: "DICOMwebClient"
    study_uid: str
    series: _WebSeries
    folder: Path
    where: str
    progress: Callable[[int], None]

    def __call__(self) -> int:
        """Write each object to a file; returns how many."""
        count = 0
        with _translated(self.where):
            for dataset in self.client.iter_series(self.study_uid, self.series.uid, media_types=_AS_STORED):
                with replacing(self.folder / f"{count:06d}.dcm") as temporary:
                    dataset.save_as(temporary, enforce_file_format=True)
                count += 1
                self.progress(count)
        if count < self.series.count:
            what = f"only {count} of {self.series.count} objects came"
            raise PeerUnavailableError(what, f"{self.where}, SeriesInstanceUID {self.series.uid}", "try again")
        return count


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """As `translated_errors`, and for answers that are no DICOM."""
    try:
        with translated_errors(where):
            yield
    except (ValueError, KeyError, InvalidDicomError) as error:
        fix = "check the address of the DICOMweb service"
        raise PeerError(f"its answer is not DICOMweb ({type(error).__name__})", where, fix) from error


def _value(dataset: dict[str, Any], tag: str) -> str:
    """The first value of an element of the DICOM JSON model (PS3.18 annex F), empty where it is absent."""
    values = dataset.get(tag, {}).get("Value") or [""]
    return str(values[0])
