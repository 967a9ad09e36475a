"""Libraries that only `fmcib batch` needs; they come with the extra `batch`."""

from importlib import import_module
from types import ModuleType

from fmcib_module.core.errors import ConfigError


def need(module: str) -> ModuleType:
    """Import a library of the extra.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"{package} is not installed", "fmcib batch", "install the extra: pip install 'fmcib-module[batch]'"
        ) from error
