"""Names of files and folders that are made from UIDs and other text of the input."""

import hashlib
import re

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_safe_name(name: str) -> bool:
    """Whether a text can be one component of a path as it is: no separator, no leading dot, not too long."""
    return _SAFE.fullmatch(name) is not None


def safe_name(text: str) -> str:
    """One path component for a text: the text itself where it is safe (every valid UID is), else its digest."""
    return text if is_safe_name(text) else "sha256-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
