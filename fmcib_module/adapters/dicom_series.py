"""Headers of DICOM files -> image series: copies dropped, acquisitions split, the rest with a reason."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fmcib_module.adapters.dicom_header import Header
from fmcib_module.core.acquisitions import LabelledSlice, split_acquisitions
from fmcib_module.core.conventions import Flag
from fmcib_module.core.domain import FileProblem, Instance, Series
from fmcib_module.core.errors import InputError
from fmcib_module.core.naming import safe_name


def build_series(headers: Iterable[Header], root: Path) -> tuple[list[Series], list[FileProblem]]:
    """Group headers into series; each CT acquisition becomes one, everything else one with a `skip_reason`.

    Args:
        headers: In the order of their files.
        root: Problems name files relative to it.

    Returns:
        Series without ROI sources, `output_name` unset, and slices of a CT series that have no position.
    """
    groups: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.study_uid, header.series_uid].append(header)
    series: list[Series] = []
    problems: list[FileProblem] = []
    for _, members in sorted(groups.items()):
        candidates = [h for h in members if h.slices and not h.problem]
        rest = [h for h in members if not (h.slices and not h.problem)]
        series += _ct_series(candidates)
        for reason, others in sorted(_by_problem(rest).items()):
            if candidates and reason.startswith("CT without"):
                problems += [_without_geometry(header, root) for header in others]
            else:
                series.append(_skipped(others, reason))
    return series, problems


def with_output_names(series: Sequence[Series]) -> list[Series]:
    """Give each series its own folder name: its uid, then uid.acq2, uid.acq3 for further parts of the same series."""
    taken: Counter[str] = Counter()
    named: list[Series] = []
    for one in sorted(series, key=lambda s: (s.study_uid, s.uid, bool(s.skip_reason))):
        name = safe_name(one.uid)
        taken[name] += 1
        named.append(replace(one, output_name=name if taken[name] == 1 else f"{name}.acq{taken[name]}"))
    return named


def _ct_series(headers: Sequence[Header]) -> list[Series]:
    if not headers:
        return []
    slices, copies = _without_copies(s for header in headers for s in header.slices)
    flags = ((Flag.DUPLICATE_SLICES,) if copies else ()) + (
        (Flag.LOSSY_COMPRESSION,) if any(h.lossy for h in headers) else ()
    )
    parts = split_acquisitions(slices)
    volumes = [part for part in parts if len(part) > 1 or len(parts) == 1]
    odd_slices = [part for part in parts if len(part) == 1 and len(parts) > 1]
    if len(volumes) > 1:
        flags = (*flags, Flag.ACQUISITION_SPLIT)
    first = headers[0]
    whole = Series(
        uid=first.series_uid,
        study_uid=first.study_uid,
        modality="CT",
        frame_of_reference_uid=_common(h.frame_of_reference_uid for h in headers),
        flags=flags,
    )
    reason = "a single slice whose size or orientation differs from the others in its series"
    return [replace(whole, instances=tuple(part)) for part in volumes] + [
        replace(whole, instances=tuple(part), skip_reason=reason) for part in odd_slices
    ]


def _without_copies(slices: Iterable[LabelledSlice]) -> tuple[list[LabelledSlice], bool]:
    """Drop further copies of an instance; the same UID at another position is another slice with a reused UID."""
    first: dict[tuple[object, ...], LabelledSlice] = {}
    copies = False
    for s in slices:
        key = (s.instance.sop_instance_uid, s.instance.frame, s.instance.position_mm, s.instance.orientation)
        copies = copies or key in first
        first.setdefault(key, s)
    return list(first.values()), copies


def _by_problem(headers: Iterable[Header]) -> dict[str, list[Header]]:
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.problem].append(header)
    return groups


def _skipped(headers: Sequence[Header], reason: str) -> Series:
    first = headers[0]
    instances: tuple[Instance, ...] = tuple(s.instance for header in headers for s in header.slices)
    return Series(
        uid=first.series_uid,
        study_uid=first.study_uid,
        modality=first.modality,
        frame_of_reference_uid=_common(h.frame_of_reference_uid for h in headers),
        instances=instances,
        skip_reason=reason,
    )


def _without_geometry(header: Header, root: Path) -> FileProblem:
    error = InputError(
        f"{header.problem}: this slice is left out of its series",
        f"SeriesInstanceUID {header.series_uid}, SOPInstanceUID {header.sop_instance_uid}",
        "export the series again with its geometry",
    )
    return FileProblem(header.path.relative_to(root).as_posix(), header.sop_instance_uid, error)


def _common(uids: Iterable[str]) -> str:
    """The most frequent uid that is not empty; the smallest of several."""
    counts = Counter(uid for uid in uids if uid)
    return min(counts, key=lambda uid: (-counts[uid], uid)) if counts else ""
