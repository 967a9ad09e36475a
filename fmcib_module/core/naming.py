"""Names of files and folders that are made from UIDs and other text of the input."""

import hashlib
import re
from typing import Final

PICTURE_FOLDER: Final = "qc"
"""The one folder inside a series' folder: pictures, and patches that are kept."""

STABILITY_NAME: Final = "stability.csv"
ICC_NAME: Final = "stability_icc.csv"
MODES_NAME: Final = "modes.csv"
COMPARISON_NAMES: Final = (STABILITY_NAME, ICC_NAME, MODES_NAME)
"""Tables over the whole run that only some settings ask for."""

EXTRACTOR_SUFFIXES: Final = (".csv", ".parquet", ".names.csv")
"""Of the tables of another extractor over the whole run, behind `extractor_stem`."""

PATIENTS_NAME: Final = "patients.csv"
"""Which series with lesions are of one patient, by pseudonym."""

REPORT_NAME: Final = "report.html"
"""Made of everything else in the folder, so it is not on the ledger and goes when results change."""

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_safe_name(name: str) -> bool:
    """Whether a text can be one component of a path as it is: no separator, no leading dot, not too long."""
    return _SAFE.fullmatch(name) is not None


def safe_name(text: str) -> str:
    """One path component for a text: the text itself where it is safe (every valid UID is), else its digest."""
    return text if is_safe_name(text) else "sha256-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def is_safe_file(name: str) -> bool:
    """Whether a text can name a file of a series: a safe name, or one in the folder of pictures."""
    return is_safe_name(name.removeprefix(f"{PICTURE_FOLDER}/"))


def picture_name(place: int, label: str) -> str:
    """A lesion's picture, named so that people find it: its place among the series' lesions, and its label.

    Args:
        place: From 0.
        label: Any text; what is no letter, digit, dot or dash becomes one underscore.
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("._-")[:48]
    return f"{PICTURE_FOLDER}/{place + 1:03d}{'-' if plain else ''}{plain}.png"


def extractor_stem(name: str) -> str:
    """How the tables of another extractor than the run's weights begin."""
    return f"features.{name}"


def patch_name(place: int, label: str) -> str:
    """A lesion's patch, beside its picture and named like it."""
    return picture_name(place, label).removesuffix(".png") + ".nrrd"
