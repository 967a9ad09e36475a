"""Views of the mixed method: the paper's, with pasted lesions and noise, and the patch before augmentation."""

from typing import Final

import torch
from torch import Tensor

from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE
from training.batches import PatchBatch, Views
from training.counter_random import derive_keys, uniform
from training.pasted_lesions import paste_pairs
from training.view_settings import ViewSettings
from training.views import N_FULL, ViewParameters, draw_parameters, make_view

PASTE_STREAM: Final = 2_000
NOISE_STREAM: Final = 3_000

CHUNK: Final = 4
"""Samples at a time: what is made of them stays in a CPU's cache."""


class MixedViews:
    """The view maker of the mixed method.

    Args:
        settings: Section `views`.
    """

    def __init__(self, settings: ViewSettings) -> None:
        self._settings = settings

    def __call__(self, batch: PatchBatch, generator: torch.Generator) -> Views:
        """Two views of each lesion; `target` is the patch with its lesion, not augmented."""
        base = torch.randint(2**62, (1,), generator=generator, device=generator.device).to(batch.lesion_rows.device)
        lesions_hu = batch.lesions_hu.float()
        if self._settings.paste_probability > 0:
            keys = derive_keys(base, batch.lesion_rows, PASTE_STREAM)
            lesions_hu = paste_pairs(lesions_hu, keys, self._settings.paste_probability)
        views = tuple(self._view(lesions_hu, batch.lesion_rows, base, stream) for stream in range(N_FULL))
        first = (lesions_hu.shape[-1] - PATCH_SIZE) // 2
        inner = slice(first, first + PATCH_SIZE)
        target = (lesions_hu[:, :, inner, inner, inner] - AIR_HU) / HU_RANGE
        return Views(views, (), batch.lesion_rows, target, batch.surroundings)

    def _view(self, patches_hu: Tensor, rows: Tensor, base: Tensor, stream: int) -> Tensor:
        parameters = draw_parameters(derive_keys(base, rows, stream), patches_hu.shape[-1], self._settings)
        chunks = []
        for first in range(0, len(rows), CHUNK):
            part = ViewParameters(*(values[first : first + CHUNK] for values in parameters))
            few = patches_hu[first : first + CHUNK]
            chunks.append(make_view(few, part, self._settings, size=self._settings.full_size))
        return add_noise(torch.cat(chunks), derive_keys(base, rows, NOISE_STREAM + stream), self._settings)


def add_noise(view: Tensor, keys: Tensor, settings: ViewSettings) -> Tensor:
    """Add white noise to some samples, its standard deviation drawn up to `noise_hu`.

    Args:
        view: (n, 1, S, S, S) scaled; changed.
        keys: (n,) int64, one per sample.
        settings: Section `views`.
    """
    chosen, level = uniform(keys, 2).unbind(1)
    generator = torch.Generator(view.device)
    for n, key in enumerate(keys.tolist()):
        if chosen[n] < settings.noise_probability:
            generator.manual_seed(key & (2**63 - 1))
            noise = torch.randn(view.shape[1:], generator=generator, device=view.device)
            view[n].add_(noise, alpha=float(level[n]) * settings.noise_hu / HU_RANGE)
    return view
