"""The secret that makes pseudonyms: given by whoever runs, or random and kept in the output folder."""

import os
import secrets
from pathlib import Path
from typing import Final

from fmcib_module.adapters.atomic import PendingFile, translated_errors
from fmcib_module.core.errors import ConfigError, OutputError
from fmcib_module.core.pseudonyms import LEAST_SALT, salt_id

SALT_VARIABLE: Final = "FMCIB_SALT"
SALT_NAME: Final = "pseudonyms.salt"
"""In OUTPUT, readable by its owner alone."""


def given_salt() -> str:
    """The salt that the environment gives; empty where it gives none.

    Raises:
        ConfigError: It is too short.
    """
    salt = os.environ.get(SALT_VARIABLE, "").strip()
    if salt and len(salt) < LEAST_SALT:
        raise ConfigError(
            f"a salt of {len(salt)} characters",
            SALT_VARIABLE,
            f"give {LEAST_SALT} or more, at random (openssl rand -hex 32)",
        )
    return salt


def new_salt() -> str:
    """256 random bits."""
    return secrets.token_hex(32)


def parse_salt(content: bytes) -> str:
    """The salt that a file holds.

    Raises:
        OutputError: It is none: cut short, or no text.
    """
    salt = content.decode("utf-8", "replace").strip()
    if len(salt) < LEAST_SALT:
        raise OutputError(
            "this is no salt", SALT_NAME, f"restore it, or delete it and use --force, or set {SALT_VARIABLE}"
        )
    return salt


class FolderSalt:
    """An output folder's salt: the environment's, else the folder's own, made when a patient first needs a name."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made.

        Raises:
            ConfigError: The environment gives one that is too short.
            OutputError: The folder's cannot be read.
        """
        self._path = folder / SALT_NAME
        self._value = given_salt() or self._read()

    @property
    def id(self) -> str:
        """As `salt_id`; empty where there is no salt yet."""
        return salt_id(self._value) if self._value else ""

    def value(self) -> str:
        """The salt.

        Raises:
            OutputError: A new one cannot be written.
        """
        if not self._value:
            salt = new_salt()
            pending = PendingFile(self._path)
            try:
                with translated_errors(self._path):
                    pending.temporary.touch(mode=0o600)
                    pending.temporary.write_text(f"{salt}\n", encoding="ascii")
                pending.commit()
            finally:
                pending.discard()
            self._value = salt
        return self._value

    def _read(self) -> str:
        try:
            return parse_salt(self._path.read_bytes())
        except FileNotFoundError:
            return ""
        except OSError as error:
            fix = f"run as the user whose it is, or set {SALT_VARIABLE}"
            raise OutputError(f"it cannot be read ({type(error).__name__})", SALT_NAME, fix) from error
