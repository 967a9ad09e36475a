"""What the mixed method guesses, against literal loops; tissue points; the loss and its parts."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmcib_module.core.errors import ConfigError
from tests.training import scans
from training.batches import PatchBatch, Views
from training.cache import LesionCache
from training.data import CacheSource
from training.fine_descriptors import BALLS_MM, FINE_NAMES, describe_finely
from training.methods import Progress, make_method
from training.methods.mixed import Guess, aligned_error, known_error
from training.mixed_views import MixedViews
from training.prepare import build_cache
from training.pretrain import run
from training.settings import (
    Accelerator,
    DataSettings,
    MethodName,
    MethodSettings,
    NetworkSettings,
    OptimiserName,
    OptimiserSettings,
    Source,
    TrainerSettings,
    TrainingSettings,
)
from training.surroundings import (
    LIMITS_HU,
    N_SURROUNDINGS,
    SHELLS_MM,
    STEP,
    describe_surroundings,
    read_surroundings,
)
from training.tissue_points import draw_tissue_points
from training.view_settings import ViewSettings

TINY = NetworkSettings(widen_factor=0.0625, projection=16, joint_passes=True)
MIXED = MethodSettings(name=MethodName.MIXED, fine_weight=2.0, surroundings_weight=3.0)


def _fine(patch: NDArray[np.float64], name: str) -> float:
    return float(describe_finely(torch.from_numpy(patch)[None, None])[0, FINE_NAMES.index(name)])


def _coordinates() -> tuple[NDArray[np.float64], ...]:
    axis = np.arange(50.0) - 25
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return z, y, x


def _sampled(values: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Values at every second voxel of a ball around the seed, one by one."""
    places = range(-21, 21, 2)
    inside = [(z, y, x) for z in places for y in places for x in places if z * z + y * y + x * x <= radius**2]
    return np.array([values[25 + z, 25 + y, 25 + x] for z, y, x in inside])


def test_fine_histograms_and_textures_are_those_of_literal_means_over_cubes() -> None:
    patch = np.random.default_rng(0).normal(30, 120, (50, 50, 50))
    cubes = {n: np.lib.stride_tricks.sliding_window_view(patch, (n, n, n)).mean(axis=(3, 4, 5)) for n in (3, 7)}
    smooth = {n: np.pad(values, n // 2) for n, values in cubes.items()}
    for radius in BALLS_MM:
        fine, coarse = _sampled(smooth[3], radius), _sampled(smooth[7], radius)
        own = _sampled(patch, radius)
        assert _fine(patch, f"ball{radius:g}_below_40") == pytest.approx((fine < 40).mean(), abs=1e-4)  # a voxel: 2e-4
        soft = [np.clip(values, -160, 240) / 100 for values in (own, fine, coarse)]
        ball = f"soft_ball{radius:g}"
        assert _fine(patch, f"{ball}_grain") == pytest.approx(np.abs(soft[0] - soft[1]).mean(), rel=1e-4)
        assert _fine(patch, f"{ball}_texture") == pytest.approx(np.abs(soft[1] - soft[2]).mean(), rel=1e-4)
        assert _fine(patch, f"{ball}_mean") == pytest.approx(soft[1].mean(), rel=1e-3, abs=1e-5)
        assert _fine(patch, f"{ball}_sd") == pytest.approx(soft[1].std(), rel=1e-3)


def test_edges_tell_a_plate_a_tube_and_a_ball_apart() -> None:
    z, y, x = _coordinates()
    plate, tube, ball = (
        60 - 100 / (1 + np.exp((5 - r) / 1.5)) for r in (np.abs(z), np.hypot(z, y), np.sqrt(z**2 + y**2 + x**2))
    )
    flat = [_fine(shape, "soft_ball8_flat") for shape in (plate, tube, ball)]
    long = [_fine(shape, "soft_ball8_long") for shape in (plate, tube, ball)]
    assert flat[0] > 0.95 > 0.2 > flat[1]
    assert flat[2] < 0.2
    assert min(long[:2]) > 0.95 > 0.2 > long[2]


def test_grey_values_rise_by_as_much_per_mm_as_they_do() -> None:
    z, y, x = _coordinates()
    cone = 5 * np.sqrt(z**2 + y**2 + x**2) - 100  # 5 HU per mm away from the seed, wherever it is
    assert _fine(cone, "soft_rise8_13") == pytest.approx(0.05, rel=0.03)
    assert _fine(-cone, "soft_rise8_13") == pytest.approx(-0.05, rel=0.03)
    assert _fine(5 * z, "soft_rise8_13") == pytest.approx(0, abs=1e-4)


def test_flips_and_turns_leave_fine_descriptors_alone() -> None:
    patches = 200 * torch.randn(3, 1, 50, 50, 50, generator=torch.Generator().manual_seed(0))
    turned = torch.roll(patches.flip(2), 1, dims=2).transpose(3, 4)
    torch.testing.assert_close(describe_finely(turned), describe_finely(patches), atol=1e-3, rtol=1e-3)
    assert len(set(FINE_NAMES)) == len(FINE_NAMES) == describe_finely(patches).shape[1]


def test_surroundings_are_the_shares_of_the_shells_voxel_by_voxel() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-1100, 400, (60, 52, 55)).astype(np.float32)
    centre = (130, 93, 101)
    counts = np.zeros((len(SHELLS_MM) - 1, len(LIMITS_HU) + 1))
    for at in np.ndindex(coarse.shape):
        middle = [STEP * n + (STEP - 1) / 2 for n in at]
        distance = np.linalg.norm(np.subtract(middle, centre))
        if SHELLS_MM[0] <= distance < SHELLS_MM[-1]:
            shell = sum(distance >= border for border in SHELLS_MM[1:-1])
            counts[shell, sum(coarse[at] >= limit for limit in LIMITS_HU)] += 1
    expected = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(describe_surroundings(coarse, centre), expected.flatten(), atol=1e-9)


def test_a_shell_that_the_scan_does_not_hold_is_not_known() -> None:
    described = describe_surroundings(np.zeros((10, 60, 60), dtype=np.float32), (20, 120, 120)).reshape(4, -1)
    assert np.isfinite(described[0]).all()  # 20 to 35 mm of a slab of 40 mm
    assert np.isnan(described[3]).all()
    assert np.isnan(describe_surroundings(np.zeros((5, 5, 5), dtype=np.float32), (-30, 0, 0))).all()


def test_surroundings_of_the_lesions_asked_for_are_standardised_and_reach_the_views(tmp_path: Path) -> None:
    cache = scans.make_cache(tmp_path, n_scans=2, lesions_per_scan=4)
    table = read_surroundings(cache, np.arange(6))
    assert table.shape == (8, N_SURROUNDINGS)
    assert table[6:].isnan().all()
    known = table[:6, : N_SURROUNDINGS // 4]
    torch.testing.assert_close(known.mean(dim=0), torch.zeros(known.shape[1]), atol=1e-5, rtol=0)
    assert ((known.std(dim=0, correction=0) - 1).abs() < 1e-3).any()
    settings = DataSettings(source=Source.CACHE, path=str(cache.folder), batch_size=4)
    assert CacheSource(settings, 1, randoms=False).read_batch(np.array([3]), 0).surroundings is None
    batch = CacheSource(settings, 1, randoms=False, surroundings=True).read_batch(np.array([3, 1]), 0)
    views = MixedViews(ViewSettings())(batch.to(torch.device("cpu")), torch.Generator().manual_seed(0))
    expected = read_surroundings(cache, cache.rows("train"))[[3, 1]]
    assert views.surroundings is not None
    torch.testing.assert_close(views.surroundings, expected, equal_nan=True)


def test_a_guess_that_is_right_costs_nothing_and_what_is_not_known_does_not_count() -> None:
    def describe(patches: Tensor) -> Tensor:
        return patches[:, 0, 0, 0, :2]

    patches = torch.randn(8, 1, 50, 50, 50, generator=torch.Generator().manual_seed(0))
    guess = Guess(2, 2, describe)
    nn.init.eye_(guess.linear.weight)
    nn.init.zeros_(guess.linear.bias)
    described = describe(patches)
    right = (described - described.mean(0)) / described.std(0, correction=0)
    assert known_error(guess.linear(right), guess.describe(patches)).item() == pytest.approx(0, abs=1e-6)
    assert known_error(guess.linear(right + 3), guess.describe(patches)).item() == pytest.approx(2.5, rel=1e-3)
    nan = float("nan")
    guessed, wanted = torch.tensor([[1.0, 9.0], [0.0, 2.0]]), torch.tensor([[1.0, nan], [3.0, nan]])
    assert known_error(guessed, wanted).item() == pytest.approx(2.5 / 2)
    assert known_error(guessed, torch.full((2, 2), nan)).item() == 0


def test_aligned_features_say_one_thing_each_and_the_rest_are_free() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(64, 3, generator=generator)
    targets = (targets - targets.mean(0)) / targets.std(0, correction=0)
    free = torch.randn(64, 2, generator=generator)
    said = torch.cat([2 * targets + 5, 0.1 * targets - 7, free], dim=1)
    error, n_aligned = aligned_error(said, targets)
    assert n_aligned == 6
    assert error.item() == pytest.approx(0, abs=1e-3)
    swapped, _ = aligned_error(said[:, [1, 0, 2, 3, 4, 5, 6, 7]], targets)
    assert swapped > 0.1  # the same span, but not feature by feature
    unknown = targets.clone()
    unknown[:32, 0] = float("nan")
    assert torch.isfinite(aligned_error(said, unknown)[0])
    with pytest.raises(ConfigError, match="2 features cannot each say one of 3 things"):
        aligned_error(free, targets)


def test_alignment_is_learned() -> None:
    """Of a network's features, those that are aligned come to follow what they should say of unseen patches."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 8), nn.Softplus())
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    inputs = torch.randn(512, 6)
    targets = torch.stack([inputs[:, 0] * 2, inputs[:, 1].abs(), inputs[:, 2] + inputs[:, 3]], dim=1)
    targets = (targets - targets.mean(0)) / targets.std(0)
    for _ in range(300):
        optimiser.zero_grad()
        torch.autograd.backward([aligned_error(network(inputs[:256]), targets[:256])[0]])
        optimiser.step()
    with torch.no_grad():
        said = network(inputs[256:])
    follows = [np.corrcoef(said[:, n], targets[256:, n % 3])[0, 1] for n in range(6)]
    assert min(follows) > 0.8


def test_the_mixed_loss_is_its_parts_by_their_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    views = Views(
        (torch.rand(4, 1, 32, 32, 32, generator=generator), torch.rand(4, 1, 32, 32, 32, generator=generator)),
        (),
        torch.arange(4),
        torch.rand(4, 1, 50, 50, 50, generator=generator),
        torch.randn(4, N_SURROUNDINGS, generator=generator),
    )
    torch.manual_seed(1)
    whole = make_method(TINY, MIXED)
    losses = []
    for fine, surroundings in ((MIXED.fine_weight, 0.0), (0.0, MIXED.surroundings_weight), (0.0, 0.0)):
        method = make_method(TINY, replace(MIXED, fine_weight=fine, surroundings_weight=surroundings))
        method.load_state_dict(whole.state_dict(), strict=False)
        losses.append(method(views, Progress(0, 0)).loss.item())
    assert not method.needs_surroundings
    whole.zero_grad()
    output = whole(views, Progress(0, 0))
    assert output.loss.item() == pytest.approx(losses[0] + losses[1] - losses[2], rel=1e-5)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in whole.parameters())


def test_tissue_points_lie_in_tissue_each_once_and_are_cached(tmp_path: Path) -> None:
    voxels = np.full((40, 44, 48), -1000, dtype=np.int16)
    voxels[8:20, 12:24, 16:32] = 40
    points = draw_tissue_points(voxels, 1000, np.random.default_rng(0))
    assert len(points) == len(set(points)) == 3 * 3 * 4
    assert all(voxels[point] == 40 for point in points)
    few = draw_tissue_points(voxels, 5, np.random.default_rng(1))
    assert (
        few
        == draw_tissue_points(voxels, 5, np.random.default_rng(1))
        != draw_tissue_points(voxels, 5, np.random.default_rng(2))
    )
    settings = replace(scans.make_inputs(tmp_path, n_scans=1), tissue_points=7)
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    drawn = [lesion for lesion in cache.lesions if lesion.source == "tissue"]
    assert len(drawn) == 7
    assert {(lesion.split, lesion.patient, lesion.label) for lesion in drawn} == {("train", "p0", "")}


def test_a_batch_moves_with_all_that_it_has() -> None:
    batch = PatchBatch(torch.zeros(2, 1, 4, 4, 4), torch.arange(2), None, torch.ones(2, 3))
    moved = batch.to(torch.device("meta"))
    assert (moved.lesions_hu.is_meta, moved.lesion_rows.is_meta, moved.randoms_hu) == (True, True, None)
    assert moved.surroundings is not None
    assert moved.surroundings.is_meta


def test_the_cosine_spans_the_steps_it_is_told(tmp_path: Path) -> None:
    settings = TrainingSettings(
        run=str(tmp_path),
        data=DataSettings(batch_size=4, n_lesions=24, edge=20),
        network=TINY,
        method=MethodSettings(name=MethodName.SIMCLR),
        optimiser=OptimiserSettings(
            name=OptimiserName.ADAMW, learning_rate=1e-3, reference_batch=0, warmup_epochs=0, schedule_steps=4
        ),
        trainer=TrainerSettings(epochs=1, accelerator=Accelerator.CPU, log_steps=1),
    )
    run(settings)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rates = {int(line["step"]): float(line["learning_rate"]) for line in csv.DictReader(file)}
    after = [1e-3 * (1 + np.cos(np.pi * step / 4)) / 2 for step in (1, 2, 3, 4, 4, 4)]  # logged when a step is done
    assert [rates[step] for step in range(1, 7)] == pytest.approx(after, rel=1e-4, abs=1e-9)
