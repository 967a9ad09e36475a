"""Runs the mhubio modules on folders of a test, in the order in which the workflows name them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from mhubio.core import Config, Module

from fmcib_module.core.domain import Point
from mhub.utils.CentroidFinder import CentroidFinder
from mhub.utils.DicomImporter import DicomImporter
from mhub.utils.EncoderRunner import EncoderRunner
from mhub.utils.PatchExtractor import PatchExtractor
from mhub.utils.ReportWriter import ReportWriter
from mhub.utils.StatusGate import StatusGate
from tests.phantoms import PhantomStudy

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "config"
MODULES: tuple[type[Module], ...] = (
    DicomImporter,
    CentroidFinder,
    PatchExtractor,
    EncoderRunner,
    ReportWriter,
    StatusGate,
)
OUTSIDE: Point = (900.0, 900.0, 900.0)
"""No phantom reaches this far."""


def make_config(base: Path, workflow: str = "default", **settings: Any) -> Config:
    """A workflow on `base`/input_data with the packaged weights.

    Args:
        base: Stands for /app/data.
        workflow: Name of a file in config/.
        settings: MODULE__KEY=value, as `--config:modules.MODULE.KEY=value`.
    """
    settings = {"EncoderRunner__weights": "mini", **settings}
    overrides = [f"--config:general.data_base_dir={base}"]
    overrides += [f"--config:modules.{k.replace('__', '.')}={_text(v)}" for k, v in settings.items()]
    return Config(config_file=str(WORKFLOWS / f"{workflow}.yml"), args=overrides)


def run_chain(config: Config, modules: Sequence[type[Module]] = MODULES) -> int:
    """Execute modules one after another; the exit code that the process would have."""
    code: str | int | None = 0
    try:
        for module in modules:
            module(config).execute()
    except SystemExit as end:
        code = end.code
    assert isinstance(code, int)
    return code


def read_ledger_json(output: Path) -> dict[str, Any]:
    """The ledger as written."""
    ledger: dict[str, Any] = json.loads((output / "run_status.json").read_text())
    return ledger


def write_points(path: Path, **points: Point) -> Path:
    """A seed table: label -> LPS millimetres."""
    rows = [{"Mhub ROI": name, "coordX": x, "coordY": y, "coordZ": z} for name, (x, y, z) in points.items()]
    path.write_text(json.dumps(rows))
    return path


def write_image(study: PhantomStudy, path: Path, *, lesion: str | None = None) -> Path:
    """The phantom's voxels, or the mask of one of its lesions, as NRRD or NIfTI by SimpleITK."""
    image: Any = sitk.GetImageFromArray(study.voxels_hu if lesion is None else study.masks[lesion].astype("uint8"))
    columns = study.affine[:3, :3]
    spacing = (columns**2).sum(axis=0) ** 0.5
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(study.affine[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path)
    return path


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
