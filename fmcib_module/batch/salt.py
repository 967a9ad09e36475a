"""The salt of pseudonyms that all jobs of an output store agree on."""

from fmcib_module.adapters.salt import SALT_NAME, SALT_VARIABLE, given_salt, new_salt, parse_salt
from fmcib_module.batch.store import Store
from fmcib_module.core.errors import OutputError


def agreed_salt(store: Store) -> str:
    """The environment's salt, else the store's own, which the first job makes.

    Raises:
        ConfigError: The environment gives one that is too short.
        OutputError: The store's cannot be read.
    """
    if given := given_salt():
        return given
    store.create(SALT_NAME, f"{new_salt()}\n".encode(), private=True)
    try:
        return parse_salt(store.read(SALT_NAME) or b"")
    except PermissionError as error:
        fix = f"run as the user whose it is, or set {SALT_VARIABLE}"
        raise OutputError("it cannot be read (PermissionError)", SALT_NAME, fix) from error
