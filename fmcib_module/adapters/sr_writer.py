"""Features as DICOM SR: Comprehensive 3D SR, template TID 1500, one TID 1411 group per lesion (highdicom).

highdicom needs about 9 s for 4,096 numbers, so it builds each document with one number per lesion, which stands for
all of them, and the encoded numbers are put in its place. The sequences around it have undefined length, so nothing
else in the file changes. In the same way a reference to the first image stands for those to all images of the series.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.derived import (
    MANUFACTURER,
    PRODUCT,
    common_arguments,
    copy_identity,
    read_header,
    refer_to_all,
    tolerant_of_source,
    without_names,
)
from fmcib_module.adapters.encoded_items import encode_item
from fmcib_module.adapters.sr_group import LesionSources, measurement_group
from fmcib_module.adapters.sr_numbers import encode_numbers, number_item
from fmcib_module.core.domain import Lesion, Provenance, SeriesReport
from fmcib_module.core.errors import OutputError
from fmcib_module.core.report import (
    CT_PROCEDURE,
    LESIONS_PER_SR,
    PRIVATE_SCHEME,
    WEIGHTS_NOTE,
    Concept,
    deterministic_uid,
    tracking_uid,
)

if TYPE_CHECKING:
    import highdicom as hd

SERIES_NUMBER = 9001
"""High, so that it does not meet the scanner's own numbers."""

_TOKEN = Concept("ALL_FEATURES", PRIVATE_SCHEME, "Stands for all features")


def write_sr(report: SeriesReport, folder: Path, *, segmentation: Dataset | None) -> tuple[Path, ...]:
    """Write the lesions of one DICOM series as SR, `LESIONS_PER_SR` per file.

    Args:
        report: Lesions of a series with at least one instance.
        folder: OUTPUT/<series_uid>.
        segmentation: What `write_seed_seg` gave, or None. A lesion from a SEG refers to that SEG; any other to
            the segment with its tracking UID in `segmentation`; without one it becomes a group of TID 1501,
            which has no region.

    Returns:
        features.sr.dcm, or features.001.sr.dcm and so on; older ones with other names are removed.

    Raises:
        OutputError: A feature is not finite, or a file cannot be written.
        PixelDataError: A source object cannot be read any more.
        ValueError: The report is of an image file, or has no lesions.
    """
    if not report.series.instances or not report.lesions:
        msg = "an SR needs a DICOM series and at least one lesion"
        raise ValueError(msg)
    parts = [report.lesions[at : at + LESIONS_PER_SR] for at in range(0, len(report.lesions), LESIONS_PER_SR)]
    with tolerant_of_source():
        header = read_header(report.series)
        sources = LesionSources.read(report, segmentation)
        evidence = [without_names(header), *sources.references()]
        written = []
        for number, lesions in enumerate(parts, start=1):
            document = _document(report, lesions, sources, evidence, number)
            copy_identity(header, document)
            name = "features.sr.dcm" if len(parts) == 1 else f"features.{number:03d}.sr.dcm"
            encoded = _with_numbers(document, [_encoded(report, lesion) for lesion in lesions])
            write_bytes(folder / name, refer_to_all(encoded, report.series))
            written.append(folder / name)
    for stale in set(folder.glob("features*.sr.dcm")).difference(written):
        stale.unlink()
    return tuple(written)


def _document(
    report: SeriesReport, lesions: Sequence[Lesion], sources: LesionSources, evidence: list[Dataset], number: int
) -> "hd.sr.Comprehensive3DSR":
    """One SR document with a token number in each group."""
    import highdicom as hd
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    provenance = report.provenance
    groups = [measurement_group(report, lesion, sources) for lesion in lesions]
    for group in groups:
        group[0].ContentSequence.append(hd.sr.NumContentItem.from_dataset(number_item(_TOKEN)))
    content = hd.sr.MeasurementReport(
        observation_context=_observation_context(provenance),
        procedure_reported=hd.sr.CodedConcept(*CT_PROCEDURE),
        imaging_measurements=groups,
    )
    if provenance.weights_note:
        note = hd.sr.TextContentItem(hd.sr.CodedConcept(*WEIGHTS_NOTE), provenance.weights_note, "CONTAINS")
        content[0].ContentSequence.append(note)
    tracking = [tracking_uid(report.series.uid, lesion.seed) for lesion in lesions]
    contents = [provenance.mode.value, provenance.weights_sha256, str(number), *tracking]
    contents += [head.sha256 for head in provenance.heads]
    contents += [f"stability of {lesion.stability.n_seeds}" for lesion in lesions if lesion.stability is not None]
    document = hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=_without_groups(content[0]),
        series_number=SERIES_NUMBER,
        instance_number=number,
        series_description=f"FMCIB features ({provenance.weights}, {provenance.mode.value})"[:64],
        is_complete=True,
        coding_schemes=[CodingSchemeIdentificationItem(PRIVATE_SCHEME, name="fmcib-module private codes")],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common_arguments(provenance, "sr", report.series, contents),
    )
    document["ContentSequence"] = content[0]["ContentSequence"]
    return document


def _without_groups(root: Dataset) -> Dataset:
    """The root with its plain items only: highdicom copies and searches what it gets, half of the time of an SR."""
    plain = Dataset()
    plain.update({element.tag: element for element in root if element.keyword != "ContentSequence"})
    plain.ContentSequence = [item for item in root.ContentSequence if item.ValueType != "CONTAINER"]
    return plain


def _observation_context(provenance: Provenance) -> Any:
    """The device that reports: this software (TID 1004)."""
    import highdicom as hd

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=deterministic_uid("device", PRODUCT, provenance.version),
        name=PRODUCT,
        manufacturer_name=MANUFACTURER,
        model_name=PRODUCT,
    )
    observer = hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), device)
    return hd.sr.ObservationContext(observer_device_context=observer)


def _encoded(report: SeriesReport, lesion: Lesion) -> bytes:
    try:
        return encode_numbers(lesion.values)
    except ValueError as error:
        where = f"SeriesInstanceUID {report.series.uid}, ROI {lesion.seed.label!r}"
        raise OutputError("features are not finite", where, "check the CT's values under this ROI") from error


def _with_numbers(document: Dataset, numbers: Sequence[bytes]) -> bytes:
    """The file's bytes, with each group's token number replaced by its encoded numbers."""
    _set_undefined_lengths(document)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, document, enforce_file_format=True)
    token = encode_item(number_item(_TOKEN))
    pieces = buffer.getvalue().split(token)
    if len(pieces) != len(numbers) + 1:
        msg = f"expected {len(numbers)} token numbers in the document, found {len(pieces) - 1}"
        raise AssertionError(msg)
    return pieces[0] + b"".join(encoded + piece for encoded, piece in zip(numbers, pieces[1:], strict=True))


def _set_undefined_lengths(item: Dataset) -> None:
    """Let containers end with a delimiter instead of a length (PS3.5 7.5.2), so that they can grow."""
    item.is_undefined_length_sequence_item = True
    if "ContentSequence" in item:
        item["ContentSequence"].is_undefined_length = True
        for child in item.ContentSequence:
            if child.ValueType == "CONTAINER":
                _set_undefined_lengths(child)
