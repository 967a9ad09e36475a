"""Which lesions a head is fitted on: no patient on both sides, and nested shares of the training data."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError

log = logging.getLogger(__name__)


def check_leakage(frame: pd.DataFrame, *, shared_patients: bool, where: str) -> int:
    """Patients that are in the training split and in another one.

    Args:
        frame: With `patient` and `split`.
        shared_patients: Go on all the same, and say so: some published splits share patients.
        where: File name, for the message.

    Raises:
        InputError: There are some.
    """
    fitted = set(frame.loc[frame["split"] == "train", "patient"])
    judged = set(frame.loc[frame["split"].isin(["val", "test"]), "patient"])
    shared = fitted & judged
    if shared and not shared_patients:
        what = f"{len(shared)} patients are in the training split and in another one"
        raise InputError(what, where, "split by patient, or set shared_patients: true to reproduce a published split")
    if shared:
        log.warning("%d patients are in the training split and in another one, as asked for", len(shared))
    return len(shared)


def training_subset(patients: Sequence[str], strata: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which training lesions a share of the data holds.

    Whole patients are taken, stratum by stratum, in an order that only the seed and the patients' names decide; so a
    smaller share is part of a larger one, and every stratum has at least one patient.

    Args:
        patients: (n,) of each lesion.
        strata: (n,) class, or whether there was an event. A patient with several belongs to the rarest of them.
        share: Of the lesions of each stratum, 0..1; a patient is in if the middle of its lesions lies within.
        seed: Another seed takes others.

    Returns:
        (n,).
    """
    rarity = Counter(strata)
    by_patient: dict[str, list[str]] = {}
    for patient, stratum in zip(patients, strata, strict=True):
        by_patient.setdefault(patient, []).append(stratum)
    groups: dict[str, list[str]] = {}
    for patient in sorted(by_patient, key=lambda name: _rank(seed, name)):
        groups.setdefault(min(by_patient[patient], key=lambda s: (rarity[s], s)), []).append(patient)
    taken = set()
    for members in groups.values():
        sizes = np.array([len(by_patient[patient]) for patient in members], dtype=np.float64)
        middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        taken |= {members[0]} | {name for name, middle in zip(members, middles, strict=True) if middle <= share}
    return np.array([patient in taken for patient in patients])


def _rank(seed: int, patient: str) -> str:
    return hashlib.sha256(f"{seed}/{patient}".encode()).hexdigest()
