"""The modified NT-Xent against reference values, plain loops, laws, and itself on two ranks."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fmcib_module.core.errors import ConfigError
from tests.shared import GOLDEN, needs_shared
from tests.training.ranks import on_two_ranks
from training.losses import ModifiedNTXent

VIEWS = ("pos0", "pos1", "neg0", "neg1")
SINGLE = ("single_0", "single_1", "single_2")
TWO_RANKS = ("two_ranks_0", "two_ranks_1")


def _case(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    settings = json.loads((GOLDEN / "ssl/cases.json").read_text())[name]
    with np.load(GOLDEN / f"ssl/{name}.npz") as arrays:
        return settings, {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def _views(n: int, d: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(n, d, generator=generator) for name in VIEWS}


def _loss(views: dict[str, Tensor], temperature: float = 0.1) -> Tensor:
    loss: Tensor = ModifiedNTXent(temperature)(
        positive=(views["pos0"], views["pos1"]), negative=(views["neg0"], views["neg1"])
    )
    return loss


def _loss_in_loops(views: dict[str, Tensor], temperature: float) -> float:
    """The definition, word by word, in Python's float64."""
    unit = {name: functional.normalize(rows.double(), dim=1).tolist() for name, rows in views.items()}

    def e(a: list[float], b: list[float]) -> float:
        return math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / temperature)

    n = len(unit["pos0"])
    terms = []
    for lesion in range(n):
        for anchor, partner in (("pos0", "pos1"), ("pos1", "pos0")):
            positive = e(unit[anchor][lesion], unit[partner][lesion])
            negatives = sum(
                e(unit[anchor][lesion], unit[view][scan])
                for view in ("neg0", "neg1")
                for scan in range(n)
                if scan != lesion
            )
            terms.append(-math.log(positive / (positive + negatives)))
    return sum(terms) / len(terms)


@needs_shared
@pytest.mark.parametrize("name", SINGLE)
def test_golden_loss_and_gradients_equal_the_published_ones(name: str) -> None:
    settings, arrays = _case(name)
    views = {view: arrays[view].requires_grad_() for view in VIEWS}
    loss = _loss(views, settings["temperature"])
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(settings["loss"], rel=1e-6)
    for view in ("pos0", "neg1"):
        expected = arrays[f"grad_{view}"]
        torch.testing.assert_close(views[view].grad, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("n", [2, 5])
def test_the_loss_equals_its_definition_in_plain_loops(n: int, temperature: float) -> None:
    views = _views(n, 12, seed=n)
    assert _loss(views, temperature).item() == pytest.approx(_loss_in_loops(views, temperature), rel=1e-5)


def test_the_loss_is_symmetric_in_its_views_and_blind_to_length() -> None:
    views = _views(6, 16)
    swapped = {"pos0": views["pos1"], "pos1": views["pos0"], "neg0": views["neg1"], "neg1": views["neg0"]}
    longer = {name: 7 * rows for name, rows in views.items()}
    torch.testing.assert_close(_loss(swapped), _loss(views))
    torch.testing.assert_close(_loss(longer), _loss(views))


def test_unusable_input_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"temperature is 0\.0"):
        ModifiedNTXent(0.0)
    with pytest.raises(ValueError, match="n >= 2"):
        _loss(_views(1, 8))
    views = _views(4, 8)
    with pytest.raises(ValueError, match="four"):
        _loss({**views, "neg0": views["neg0"][:2]})


def _rank_losses(rank: int, cases: list[tuple[dict[str, Tensor], float]]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    results = []
    for arrays, temperature in cases:
        views = {view: arrays[f"rank{rank}_{view}"].requires_grad_() for view in VIEWS}
        loss = _loss(views, temperature)
        torch.autograd.backward(loss)
        results.append((loss.detach(), {view: rows.grad for view, rows in views.items() if rows.grad is not None}))
    return results


@pytest.mark.slow
@needs_shared
def test_golden_two_ranks_give_the_published_losses_and_the_whole_batch_s_gradients(tmp_path: Path) -> None:
    cases = [_case(name) for name in TWO_RANKS]
    ranks = on_two_ranks(_rank_losses, tmp_path, [(arrays, settings["temperature"]) for settings, arrays in cases])
    for (settings, arrays), (loss_0, gradients_0), (loss_1, gradients_1) in zip(cases, *ranks, strict=True):
        losses = [loss_0.item(), loss_1.item()]
        assert losses == pytest.approx(settings["loss_per_rank"], rel=1e-6)
        whole = {
            view: torch.cat([arrays[f"rank{rank}_{view}"].detach() for rank in range(2)]).requires_grad_()
            for view in VIEWS
        }
        loss = _loss(whole, settings["temperature"])
        torch.autograd.backward(loss)
        assert sum(losses) / 2 == pytest.approx(loss.item(), rel=1e-6)
        for view in VIEWS:
            # Each rank's gradient is that of the sum of both losses; DDP's mean over ranks halves it.
            gradient = torch.cat([gradients_0[view], gradients_1[view]]) / 2
            expected = whole[view].grad
            assert expected is not None
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
