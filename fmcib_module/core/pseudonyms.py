"""Names that tell which results are of one patient, and not of whom (HMAC-SHA256, RFC 2104)."""

import hashlib
import hmac
import json
from typing import Final

PATIENT_PREFIX: Final = "P-"
"""Of a name that follows from a PatientID."""

STUDY_PREFIX: Final = "S-"
"""Of a name that follows from a StudyInstanceUID, where there is no PatientID."""

DIGITS: Final = 16
"""Hexadecimal digits of a name: among a million patients two share one with a probability of 3e-8."""

LEAST_SALT: Final = 16
"""Characters of a salt; a shorter one can be guessed, and with it every PatientID."""


def name_of(salt: str, *, patient_id: str, issuer: str = "", study_uid: str = "") -> str:
    """A patient's pseudonym.

    The same PatientID from another issuer is another patient (PS3.3 C.7.1.1). Who has no PatientID is not one with all
    others who have none: the study takes its place, so that two studies of such a patient count as two patients.

    Args:
        salt: Kept secret: PatientIDs are few enough to try them all with it.
        patient_id: PatientID; spaces around it do not count (PS3.5 6.2, LO).
        issuer: IssuerOfPatientID, likewise.
        study_uid: StudyInstanceUID.

    Returns:
        "P-" (of a PatientID) or "S-" (of a study) and 16 hexadecimal digits; "" where there is neither.
    """
    if patient_id := patient_id.strip():
        return PATIENT_PREFIX + _digest(salt, "patient", patient_id, issuer.strip())
    return STUDY_PREFIX + _digest(salt, "study", study_uid) if study_uid else ""


def salt_id(salt: str) -> str:
    """Tells salts apart and does not tell them: results with different ones do not go into one table."""
    return _digest(salt, "salt")


def _digest(salt: str, *parts: str) -> str:
    key = salt.encode("utf-8", "surrogateescape")  # as the environment holds it
    return hmac.new(key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()[:DIGITS]
