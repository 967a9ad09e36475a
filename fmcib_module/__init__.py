"""DICOM CT with marked lesions in, foundation-model features per lesion out.

The public names are loaded when they are first used, so that `import fmcib_module` stays quick: no torch, no highdicom.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fmcib_module.adapters.dicom_import import read_studies
    from fmcib_module.adapters.extractors import load_extractor
    from fmcib_module.adapters.runner import Encoder, load_encoder
    from fmcib_module.adapters.seed_finder import find_seeds
    from fmcib_module.adapters.volume_reader import read_volume
    from fmcib_module.core.conventions import Flag, Irregular, Mode, SeedKind
    from fmcib_module.core.domain import Patch, Seed, Series, Study
    from fmcib_module.core.errors import (
        ConfigError,
        FmcibError,
        FrameOfReferenceError,
        InputError,
        NotOneVolumeError,
        OutputError,
        PixelDataError,
        SeedNotFoundError,
        SeedOutsideVolumeError,
        WeightsError,
    )
    from fmcib_module.core.extractors import Extractor, Region, cut_cube
    from fmcib_module.core.ledger import ExitCode, Ledger
    from fmcib_module.core.patch import extract_patch
    from fmcib_module.core.volume import Grid, Volume
    from fmcib_module.inspection import inspect_folder
    from fmcib_module.pipeline import run
    from fmcib_module.report import write_report
    from fmcib_module.settings import Settings, read_settings

_HOMES = {
    "adapters.dicom_import": ["read_studies"],
    "adapters.extractors": ["load_extractor"],
    "adapters.runner": ["Encoder", "load_encoder"],
    "adapters.seed_finder": ["find_seeds"],
    "adapters.volume_reader": ["read_volume"],
    "core.conventions": ["Flag", "Irregular", "Mode", "SeedKind"],
    "core.domain": ["Patch", "Seed", "Series", "Study"],
    "core.errors": [
        "ConfigError",
        "FmcibError",
        "FrameOfReferenceError",
        "InputError",
        "NotOneVolumeError",
        "OutputError",
        "PixelDataError",
        "SeedNotFoundError",
        "SeedOutsideVolumeError",
        "WeightsError",
    ],
    "core.extractors": ["Extractor", "Region", "cut_cube"],
    "core.ledger": ["ExitCode", "Ledger"],
    "core.patch": ["extract_patch"],
    "core.volume": ["Grid", "Volume"],
    "inspection": ["inspect_folder"],
    "pipeline": ["run"],
    "report": ["write_report"],
    "settings": ["Settings", "read_settings"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ConfigError",
    "Encoder",
    "ExitCode",
    "Extractor",
    "Flag",
    "FmcibError",
    "FrameOfReferenceError",
    "Grid",
    "InputError",
    "Irregular",
    "Ledger",
    "Mode",
    "NotOneVolumeError",
    "OutputError",
    "Patch",
    "PixelDataError",
    "Region",
    "Seed",
    "SeedKind",
    "SeedNotFoundError",
    "SeedOutsideVolumeError",
    "Series",
    "Settings",
    "Study",
    "Volume",
    "WeightsError",
    "cut_cube",
    "extract_patch",
    "find_seeds",
    "inspect_folder",
    "load_encoder",
    "load_extractor",
    "read_settings",
    "read_studies",
    "read_volume",
    "run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
