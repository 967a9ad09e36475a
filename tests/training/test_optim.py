"""LARS against reference steps, parameter groups, and the shape of the schedule."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.shared import GOLDEN, needs_shared
from training.optim import LARS, cosine_with_warmup, make_optimiser, parameter_groups, scaled_learning_rate
from training.settings import OptimiserName, OptimiserSettings


@needs_shared
@pytest.mark.parametrize("name", ["lars_0", "lars_1", "lars_2"])
def test_golden_lars_steps_equal_the_published_ones(name: str) -> None:
    settings = json.loads((GOLDEN / "ssl/cases.json").read_text())[name]
    n_steps = settings.pop("steps")
    with np.load(GOLDEN / f"ssl/{name}.npz") as arrays:
        weight, bias = (nn.Parameter(torch.from_numpy(arrays[key])) for key in ("w0", "b0"))
        optimiser = LARS([weight, bias], **settings)
        for step in range(n_steps):
            weight.grad = torch.from_numpy(arrays[f"gw{step}"])
            bias.grad = torch.from_numpy(arrays[f"gb{step}"])
            optimiser.step()
        for parameter, key in ((weight, "w_end"), (bias, "b_end")):
            np.testing.assert_allclose(parameter.detach().numpy(), arrays[key], rtol=1e-6)


def test_norms_and_biases_decay_only_where_asked() -> None:
    module = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, others = parameter_groups(module, 1e-6, decay_norms_and_biases=False)
    assert {id(p) for p in decayed["params"]} == {id(module[0].weight), id(module[3].weight)}  # type: ignore[attr-defined]
    assert (decayed["weight_decay"], others["weight_decay"]) == (1e-6, 0.0)
    (everything,) = parameter_groups(module, 1e-6, decay_norms_and_biases=True)
    assert len(everything["params"]) == len(list(module.parameters()))  # type: ignore[arg-type]


def test_the_papers_learning_rate_is_0_3_times_64_over_256() -> None:
    assert scaled_learning_rate(OptimiserSettings(), 64) == pytest.approx(0.075)
    assert scaled_learning_rate(OptimiserSettings(reference_batch=0), 64) == 0.3


@pytest.mark.parametrize("name", list(OptimiserName))
def test_every_optimiser_lowers_a_convex_loss(name: OptimiserName) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 1)
    rows = torch.randn(32, 6)
    settings = OptimiserSettings(
        name=name, learning_rate=0.5 if name is OptimiserName.LARS else 0.02, reference_batch=0
    )
    optimiser = make_optimiser(layer, settings, 32)
    losses = []
    for _ in range(60):
        loss = ((layer(rows) - rows.sum(dim=1, keepdim=True)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = cosine_with_warmup(optimiser, warmup_steps=4, total_steps=24, final_fraction=0.1)
    rates = []
    for _ in range(25):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[14] == pytest.approx(2.0 * (0.1 + 0.9 / 2))  # half way down
    assert rates[24] == pytest.approx(0.2)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
