"""Pseudonyms of patients: RFC 2104's HMAC, told apart where patients are, and nothing without the salt."""

import hashlib

from fmcib_module.core.pseudonyms import name_of, salt_id

SALT = "f00d" * 16


def test_a_name_is_an_hmac_of_id_and_issuer_as_rfc_2104_defines_it() -> None:
    message = b'["patient", "0815", "CLINIC"]'
    inner, outer = (bytes(byte ^ pad for byte in SALT.encode()) for pad in (0x36, 0x5C))  # 64 bytes: one block
    expected = hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).hexdigest()
    assert name_of(SALT, patient_id="0815", issuer="CLINIC", study_uid="1.2.3") == f"P-{expected[:16]}"


def test_one_patient_has_one_name_in_all_studies_and_spaces_do_not_count() -> None:
    names = {name_of(SALT, patient_id=text, study_uid=uid) for text in ("0815", " 0815 ") for uid in ("1.2", "1.3")}
    assert len(names) == 1


def test_another_id_issuer_or_salt_is_another_name() -> None:
    names = [
        name_of(SALT, patient_id="0815"),
        name_of(SALT, patient_id="0816"),
        name_of(SALT, patient_id="0815", issuer="A"),
        name_of(SALT, patient_id="0815A"),
        name_of(SALT[:-1], patient_id="0815"),
    ]
    assert len(set(names)) == len(names)


def test_patients_without_an_id_are_not_one() -> None:
    first, second = (name_of(SALT, patient_id=" ", study_uid=uid) for uid in ("1.2", "1.3"))
    assert first != second
    assert (first[:2], second[:2]) == ("S-", "S-")
    assert name_of(SALT, patient_id="1.2") not in (first, second)
    assert name_of(SALT, patient_id="", issuer="CLINIC") == ""


def test_the_id_of_a_salt_tells_salts_apart_and_is_no_name() -> None:
    assert salt_id(SALT) != salt_id(SALT[:-1])
    assert salt_id(SALT) not in SALT
    assert salt_id(SALT) != name_of(SALT, patient_id="salt")[2:]
