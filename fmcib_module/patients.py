"""patients.csv: which series with lesions are of one patient, by pseudonym."""

import csv
import io
from pathlib import Path
from typing import Final

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.ledger import Ledger
from fmcib_module.core.naming import PATIENTS_NAME
from fmcib_module.core.pseudonyms import PATIENT_PREFIX

COLUMNS: Final = ("patient", "known_by", "study_uid", "series_uid", "lesions")


def write_patients(output: Path, ledger: Ledger) -> None:
    """Write one row per series that has lesions and a patient, sorted; nothing where there is none.

    Raises:
        OutputError: It cannot be written.
    """
    lesions: dict[tuple[str, str, str], int] = {}
    for entry in ledger.series:
        if entry.patient:
            key = entry.patient, entry.study_uid, entry.series_uid
            lesions[key] = lesions.get(key, 0) + entry.n_lesions
    if not lesions:
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(COLUMNS)
    for (patient, *uids), count in sorted(lesions.items()):
        known_by = "PatientID" if patient.startswith(PATIENT_PREFIX) else "StudyInstanceUID"
        table.writerow((patient, known_by, *uids, count))
    write_bytes(output / PATIENTS_NAME, text.getvalue().encode())
