"""`python -m training saliency FILE`: where a fine-tuned model looks, by smooth guided back-propagation (MONAI).

OUTPUT/saliency.<lesion>.npy   (S, S, S) float32, axes (z, y, x), the seed at S // 2; gradients as they are
OUTPUT/saliency.<lesion>.png   central slices with isolines (and .svg, .csv)
OUTPUT/saliency.csv            how much of each map lies near the seed
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fmcib_module.adapters.atomic import replacing
from fmcib_module.adapters.runner import choose_device
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.extractors import CARDS, Axes, InputForm
from fmcib_module.settings import Device, from_plain, read_yaml
from training.adaptation.augment import as_input
from training.adaptation.finetuned import FineTuned, probabilities, read_finetuned
from training.adaptation.lesions import LesionSettings, open_lesions
from training.study.drawing import Drawing, file_name, panels, save_drawing, styled
from training.study.models import classes_of

log = logging.getLogger(__name__)

Cube = NDArray[np.float32]

LEVELS: Final = (0.25, 0.5, 0.75)
"""Isolines, of the largest value in the cube."""

WINDOW_HU: Final = (-1000.0, 400.0)
"""From black to white."""

NEAR_MM: Final = 15.0
"""What counts as near the seed; voxels are of 1 mm."""

PLANES: Final = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Plane -> the axis of (z, y, x) that it is a slice of."""

RECTIFIERS: Final = frozenset(
    (nn.functional.relu, torch.relu, torch.relu_, nn.functional.relu_, Tensor.relu, Tensor.relu_)
)


@dataclass(frozen=True, slots=True)
class SaliencySettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        output: Folder.
        data: Lesions.
        finetuned: best.torch of `finetune`, or one of the paper's fine-tuned models.
        extractor: Whose network it is.
        lesions: Names of lesions to look at; empty for the first ones of the split.
        split: For that; "" for any.
        most: For that: how many.
        output_number: Which output of the model, from 0; -1 for the one that is highest for the lesion.
        samples: Noisy copies whose gradients are averaged.
        noise: Their standard deviation, as a share of the range of the cube's values.
        seed: Of the noise.
        device: auto, cpu or cuda.
    """

    output: str
    data: LesionSettings
    finetuned: str
    extractor: str = "fmcib"
    lesions: tuple[str, ...] = ()
    split: str = "test"
    most: int = 8
    output_number: int = -1
    samples: int = 25
    noise: float = 0.15
    seed: int = 1
    device: Device = Device.AUTO

    def __post_init__(self) -> None:
        if self.samples < 1 or self.most < 1 or self.noise < 0:
            raise ConfigError("samples, most or noise is too small", "saliency", "use positive numbers")


def saliency(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        WeightsError: The model cannot be read.
        InputError: The lesions cannot be read.
        OutputError: The folder cannot be written.
    """
    settings = from_plain(SaliencySettings, read_yaml(settings_path), where=settings_path.name)
    path, output, form = Path(settings.finetuned), Path(settings.output), _form(settings.extractor)
    model = read_finetuned(path, settings.extractor).to(choose_device(settings.device))
    classes = classes_of(path) if path.with_name("best.json").is_file() else ()
    lesions = open_lesions(settings.data)
    rows = _chosen(lesions.frame, settings)
    read = lesions.crop_reader(rows, form.edge)
    unreadable = {what for what, _ in lesions.failures}
    found = []
    output.mkdir(parents=True, exist_ok=True)
    for row in rows:
        name = str(lesions.frame["lesion"].iloc[row])
        if f"lesion {name}" in unreadable:
            log.warning("lesion %s cannot be cut", name)
            continue
        cube_hu = read(row)
        x = as_input(torch.from_numpy(cube_hu)[None, None], form)
        number, probability = _explained(model, x, settings.output_number, path.name)
        values = guided_saliency(model, x, number, settings)
        values = np.ascontiguousarray(values.T) if form.axes is Axes.XYZ else values
        facts = {"lesion": name, "output": number, "class": _class_name(classes, number)}
        facts |= {"probability": probability, **_place(values)}
        found.append(facts)
        with replacing(output / f"{file_name('saliency', name)}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, values)
        with styled():
            save_drawing(output, draw_saliency(cube_hu, values, facts))
    with replacing(output / "saliency.csv") as temporary:
        pd.DataFrame(found).to_csv(temporary, index=False)
    log.info("%d lesions in %s", len(found), output.name)


class Guidable(nn.Module):
    """A network whose every ReLU, whatever it is called and wherever it is used, is the module `relu`.

    MONAI's guided back-propagation exchanges modules of that name; the networks here have other names, or call ReLU as
    a function, and would silently get plain gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """As the network."""
        with _Rectified(self.relu):
            out: Tensor = self.network(x)
        return out


class _Rectified(TorchFunctionMode):
    """Calls a module in place of ReLU."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self._relu = relu

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in RECTIFIERS:
            return self._relu(args[0])
        return func(*args, **(kwargs or {}))


def guided_saliency(model: nn.Module, x: Tensor, number: int, settings: SaliencySettings) -> Cube:
    """Smooth guided back-propagation of one output to the input.

    Args:
        model: Network and head, on a device.
        x: (1, 1, S, S, S) as the network takes it.
        number: Of the output.
        settings: samples, noise, seed.

    Returns:
        (S, S, S) non-negative: the root of the sum of squared gradients over samples, divided by their number.

    References:
        Springenberg et al. 2015, arXiv:1412.6806; Smilkov et al. 2017, arXiv:1706.03825.
    """
    from monai.visualize.gradient_based import GuidedBackpropSmoothGrad

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        explain = GuidedBackpropSmoothGrad(
            Guidable(model), stdev_spread=settings.noise, n_samples=settings.samples, verbose=False
        )
        gradients: Tensor = explain(x.to(device), index=number)
    values: Cube = gradients[0, 0].detach().cpu().numpy().astype(np.float32)
    return values


def draw_saliency(cube_hu: NDArray[np.int16], values: Cube, facts: Mapping[str, Any]) -> Drawing:
    """The three central slices with isolines; superior is up, and left of the patient on the right."""
    figure, axes = panels(3, size=(2.3, 2.5))
    centre, top = len(values) // 2, float(values.max())
    for ax, (plane, axis) in zip(axes, PLANES.items(), strict=True):
        image, looked = (np.take(cube, centre, axis=axis) for cube in (cube_hu, values))
        ax.imshow(image, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
        levels = [level * top for level in LEVELS]
        if looked.max() > levels[0]:
            ax.contour(looked, levels=levels, cmap="plasma", linewidths=0.8)
        if plane != "axial":
            ax.invert_yaxis()
        ax.set_title(plane)
        ax.set_axis_off()
    caption = (
        f"Lesion {facts['lesion']}, output {facts['output']}: isolines at 25, 50 and 75 % of the largest gradient."
    )
    name = file_name("saliency", str(facts["lesion"]))
    return Drawing(name, "", "Saliency", caption, figure, pd.DataFrame([facts]))


def _place(values: Cube) -> dict[str, float]:
    """Share of the map within `NEAR_MM` of the seed, and how far from it the map's centre of mass lies, mm."""
    total = float(values.sum(dtype=np.float64))
    if not total:
        return {"near_share": float("nan"), "centre_mm": float("nan")}
    offsets = np.indices(values.shape, dtype=np.float64) - len(values) // 2
    near = np.sqrt((offsets**2).sum(axis=0)) <= NEAR_MM
    centre = (offsets * values).sum(axis=(1, 2, 3)) / total
    return {"near_share": float(values[near].sum(dtype=np.float64) / total), "centre_mm": float(np.linalg.norm(centre))}


def _explained(model: FineTuned, x: Tensor, wanted: int, where: str) -> tuple[int, float]:
    """Number of the output, and the probability of the class that it is the logit of."""
    with torch.no_grad():
        logits = model(x.to(next(model.parameters()).device)).float().cpu()
    n_outputs = logits.shape[1]
    if wanted >= n_outputs:
        raise ConfigError(f"the model has {n_outputs} output(s)", where, "give an output_number below that")
    number = int(logits.argmax()) if wanted < 0 else wanted
    return number, float(probabilities(logits)[0, 1 if n_outputs == 1 else number])


def _class_name(classes: tuple[str, ...], number: int) -> str:
    """Of two classes the only output is the second one's."""
    if not classes:
        return ""
    return classes[1] if len(classes) == 2 else classes[number]


def _chosen(frame: pd.DataFrame, settings: SaliencySettings) -> list[int]:
    if settings.lesions:
        places = {name: row for row, name in enumerate(frame["lesion"])}
        if missing := [name for name in settings.lesions if name not in places]:
            raise ConfigError(f"no such lesion: {', '.join(missing)}", "lesions", "name lesions of the table")
        return [places[name] for name in settings.lesions]
    rows = np.arange(len(frame))
    if settings.split:
        rows = np.flatnonzero(frame["split"] == settings.split) if "split" in frame else rows[:0]
    if not len(rows):
        raise ConfigError(f"no lesion is in the split {settings.split!r}", "split", "name another one, or lesions")
    return [int(row) for row in rows[: settings.most]]


def _form(extractor: str) -> InputForm:
    form = next((card.form for card in CARDS if card.name == extractor and not card.form.needs_mask), None)
    if form is None:
        raise ConfigError(f"there is no network {extractor!r}", "extractor", "name the network of the fine-tuned model")
    return form
