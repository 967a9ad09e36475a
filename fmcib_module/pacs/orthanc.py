"""Orthanc over its REST interface: what changed, what a study holds, its files, and ours back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fmcib_module.adapters.atomic import replacing
from fmcib_module.adapters.derived import is_own_output
from fmcib_module.core.errors import PeerError
from fmcib_module.pacs.received import LARGEST_REPORT, marks_lesions
from fmcib_module.pacs.web import TIMEOUT_S, Access, open_session, refusal, translated_errors

CHANGES_AT_ONCE: Final = 500

IMAGES: Final = ("CT",)
ROI_SOURCES: Final = ("RTSTRUCT", "SEG")
REPORTS: Final = ("SR", "PR")
"""Modalities of reports and presentation states: some of their objects mark lesions."""
_MAY_BE_OURS: Final = ("SEG", "SR")

_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Instance:
    """An object that a study holds.

    Attributes:
        name: Orthanc's own.
        version: Changes when the object is stored again with other content.
        size: Bytes.
    """

    name: str
    version: str
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What a study holds that a run may read.

    Attributes:
        uid: StudyInstanceUID.
        stable: Nothing is arriving.
        modalities: Of the series that a run reads something of.
        instances: Of these series, without results of this software and reports that mark no place.
    """

    uid: str
    stable: bool
    modalities: frozenset[str] = frozenset()
    instances: tuple[Instance, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether images and something drawn on them are there."""
        return bool(self.modalities.intersection(IMAGES) and self.modalities.intersection((*ROI_SOURCES, *REPORTS)))


class Orthanc:
    """A server; each method raises PeerUnavailableError or PeerError."""

    def __init__(self, url: str, access: Access) -> None:
        """Prepare a connection; nothing is sent.

        Args:
            url: As `check_url` gives it.
            access: Who we are there.
        """
        self._url, self._session = url, open_session(access)
        self._where = f"Orthanc at {urlsplit(url).hostname}"

    def close(self) -> None:
        """End the connection."""
        self._session.close()

    def last_change(self) -> int:
        """Number of the newest change."""
        return int(self._get("/changes?last")["Last"])

    def changes(self, since: int) -> tuple[list[dict[str, Any]], int, bool]:
        """Some changes after a number, the number to go on from, and whether these were all."""
        answer = self._get(f"/changes?since={since}&limit={CHANGES_AT_ONCE}")
        return answer["Changes"], int(answer["Last"]), bool(answer["Done"])

    def studies_of(self, changes: Sequence[dict[str, Any]]) -> set[str]:
        """Orthanc's names of the studies that changes are about, with few questions."""
        studies: set[str] = set()
        series_done: set[str] = set()
        instances_done: set[str] = set()
        for change in changes:
            kind, name = change["ResourceType"], change["ID"]
            series = ""
            if kind == "Study" and change["ChangeType"] != "Deleted":
                studies.add(name)
            elif kind == "Series" and name not in series_done:
                series = name
            elif kind == "Instance" and name not in instances_done:
                series = (self._find(f"/instances/{name}") or {}).get("ParentSeries", "")
            if series and (found := self._find(f"/series/{series}")):
                series_done.add(series)
                instances_done.update(found["Instances"])
                studies.add(found["ParentStudy"])
        return studies

    def study(self, name: str) -> Listing | None:
        """What a study holds; None if it is there no more."""
        study = self._find(f"/studies/{name}")
        if study is None:
            return None
        uid = study["MainDicomTags"].get("StudyInstanceUID", "")
        if not study["IsStable"]:
            return Listing(uid, stable=False)
        series = self._find(f"/studies/{name}/series")
        instances = self._find(f"/studies/{name}/instances")
        if series is None or instances is None:
            return None
        wanted = {one["ID"]: one["MainDicomTags"].get("Modality", "") for one in series if self._is_wanted(one)}
        found = {
            Instance(one["ID"], one.get("FileUuid", ""), int(one.get("FileSize", 0))): wanted[one["ParentSeries"]]
            for one in instances
            if one["ParentSeries"] in wanted
        }
        read = {one: modality for one, modality in found.items() if modality not in REPORTS or self._marks(one)}
        ordered = sorted(read, key=lambda one: one.name)
        return Listing(uid, stable=True, modalities=frozenset(read.values()), instances=tuple(ordered))

    def _is_wanted(self, series: dict[str, Any]) -> bool:
        """Whether a run reads a series: images, and what others drew on them."""
        tags = series["MainDicomTags"]
        modality = tags.get("Modality", "")
        if modality not in (*IMAGES, *ROI_SOURCES, *REPORTS) or not series["Instances"]:
            return False
        if modality not in _MAY_BE_OURS:
            return True
        model = self._content(f"/instances/{series['Instances'][0]}/content/0008-1090")
        return not is_own_output(tags.get("Manufacturer", ""), model)

    def _marks(self, report: Instance) -> bool:
        """Whether a report of others marks a place; one that is too large to look into does not."""
        if report.size > LARGEST_REPORT:
            return False
        with translated_errors(self._where):
            answer = self._session.get(
                f"{self._url}/instances/{report.name}/file", timeout=TIMEOUT_S, allow_redirects=False
            )
            answer.raise_for_status()
        return marks_lesions(answer.content)

    def download(self, instance: Instance, path: Path) -> None:
        """Store the file of an object, a block at a time.

        Raises:
            OutputError: It cannot be written.
        """
        with replacing(path) as temporary, translated_errors(self._where):  # the inner one first: both are OSErrors
            answer = self._session.get(
                f"{self._url}/instances/{instance.name}/file", stream=True, timeout=TIMEOUT_S, allow_redirects=False
            )
            with answer, temporary.open("wb") as file:
                answer.raise_for_status()
                for block in answer.iter_content(_BLOCK):
                    file.write(block)

    def upload(self, path: Path) -> bool:
        """Hand a file over; False if it was there already."""
        with translated_errors(self._where), path.open("rb") as file:
            answer = self._session.post(
                f"{self._url}/instances",
                data=file,
                headers={"Content-Type": "application/dicom"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            answer.raise_for_status()
            status = answer.json().get("Status", "")
        if status not in ("Success", "AlreadyStored"):
            raise PeerError(f"it did not take a result ({status!r})", self._where, "look at its log")
        return bool(status == "Success")

    def _get(self, path: str) -> Any:
        found = self._find(path)
        if found is None:
            raise refusal(404, self._where)
        return found

    def _find(self, path: str) -> Any:
        """An answer from JSON; None where there is no such thing."""
        with translated_errors(self._where):
            answer = self._session.get(f"{self._url}{path}", timeout=TIMEOUT_S, allow_redirects=False)
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            return answer.json()

    def _content(self, path: str) -> str:
        """The value of an element, empty where it is absent."""
        with translated_errors(self._where):
            answer = self._session.get(f"{self._url}{path}", timeout=TIMEOUT_S, allow_redirects=False)
            if answer.status_code == 404:
                return ""
            answer.raise_for_status()
            return answer.content.decode("latin-1").strip(" \0")


def download_all(
    orthanc: Orthanc, instances: Sequence[Instance], folder: Path, stopping: Callable[[], bool]
) -> Iterator[Path]:
    """The files of objects, one after the other; those that are there already are not fetched again.

    A file's name holds its version, and it appears only when it is whole.
    """
    for instance in instances:
        path = folder / f"{instance.name}.{instance.version}.dcm"
        if stopping():
            return
        if not path.is_file():
            orthanc.download(instance, path)
        yield path
