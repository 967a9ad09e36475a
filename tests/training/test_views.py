"""Views against MONAI's and torch's own transforms sample by sample, and the laws of their random numbers."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fmcib_module.core.errors import ConfigError
from training.batches import PatchBatch
from training.counter_random import derive_keys, uniform
from training.view_settings import CropMeasure, Flips, SmoothBorder, ViewSettings
from training.views import LesionViews, ViewParameters, check_margin, draw_parameters, make_view, shift_histogram

monai: Any = import_module("monai.transforms")  # its types are partial

N = 6
PAPER = ViewSettings()
NOTHING = ViewSettings(scale=(1, 1), flip_probability=0, shift_probability=0, smooth_probability=0, threshold=False)


def _patches(edge: int = 50, n: int = N, seed: int = 0) -> Tensor:
    """Smooth noise from air to bone, int16, as a cache gives it."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 12, 12, 12, generator=generator)
    smooth = functional.interpolate(coarse, size=(edge,) * 3, mode="trilinear", align_corners=False)
    noise = torch.randint(-100, 100, smooth.shape, generator=generator)
    return (3500 * smooth - 1500 + noise).to(torch.int16)


def _batch(n: int = N, *, edge: int = 50, randoms: bool = True) -> PatchBatch:
    return PatchBatch(_patches(edge, n), torch.arange(n) + 10, _patches(edge, n, seed=1) if randoms else None)


def _generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _literal_view(patch_hu: Tensor, p: ViewParameters, n: int, settings: ViewSettings, size: int) -> Tensor:
    """One sample by MONAI's transforms and numpy's interpolation, one after the other; (size, size, size)."""
    z, y, x = (int(start) for start in p.starts[n])
    edge = int(p.edges[n])
    view = patch_hu[:, z : z + edge, y : y + edge, x : x + edge].float()
    view = torch.as_tensor(monai.Resize((size,) * 3, mode="trilinear")(view))
    for axis in range(3):
        if p.flips[n, axis]:
            view = view.flip(axis + 1)
    if p.shifted[n]:
        transform = monai.RandHistogramShift(p.levels.shape[1], prob=1.0)
        transform.reference_control_points = np.linspace(0, 1, p.levels.shape[1])
        transform.floating_control_points = p.levels[n].double().numpy()
        transform._do_transform = True
        view = torch.as_tensor(transform(view, randomize=False))
    if p.smoothed[n]:
        view = _literal_smooth(view, p.sigmas[n].tolist(), settings.smooth_border)
    if settings.threshold:
        view = torch.as_tensor(monai.ThresholdIntensity(-1024, cval=-1024)(view))
    view = torch.as_tensor(monai.NormalizeIntensity(subtrahend=-1024, divisor=3072)(view))
    return view[0]


def _literal_smooth(view: Tensor, sigmas: list[float], border: SmoothBorder) -> Tensor:
    smooth = monai.GaussianSmooth(sigmas)
    if border is SmoothBorder.ZERO_HU:
        return torch.as_tensor(smooth(view))
    if border is SmoothBorder.AIR:
        return torch.as_tensor(smooth(view + 1024)) - 1024
    padded = functional.pad(view[None], (8,) * 6, mode="replicate")[0]
    return torch.as_tensor(smooth(padded))[:, 8:-8, 8:-8, 8:-8]


@pytest.mark.parametrize("border", SmoothBorder)
@pytest.mark.parametrize("small", [False, True])
def test_views_equal_monai_sample_by_sample(border: SmoothBorder, small: bool) -> None:
    settings = ViewSettings(
        shift_probability=0.7, smooth_probability=0.7, smooth_border=border, flips=Flips.EACH_AXIS, keep_radius=-1
    )
    patches = _patches()
    parameters = draw_parameters(derive_keys(torch.tensor(3), torch.arange(N), 0), 50, settings, small=small)
    assert parameters.shifted.any()
    assert parameters.smoothed.any()
    size = 25 if small else 50
    views = make_view(patches, parameters, settings, size=size)
    assert views.shape == (N, 1, size, size, size)
    for n in range(N):
        expected = _literal_view(patches[n], parameters, n, settings, size)
        torch.testing.assert_close(views[n, 0], expected, atol=2e-6, rtol=0)


def test_without_augmentation_a_view_is_the_scaled_patch() -> None:
    for edge in (50, 64):
        batch = _batch(edge=edge)
        views = LesionViews(NOTHING)(batch, _generator())
        first = edge // 2 - 25
        inner = batch.lesions_hu[:, :, first : first + 50, first : first + 50, first : first + 50]
        torch.testing.assert_close(views.lesions[0], (inner.float() + 1024) / 3072, atol=1e-6, rtol=0)


def test_below_air_there_is_nothing_with_the_threshold() -> None:
    batch = _batch()
    assert batch.lesions_hu.min() < -1100
    assert LesionViews(replace(NOTHING, threshold=True))(batch, _generator()).lesions[0].min() == 0
    assert LesionViews(NOTHING)(batch, _generator()).lesions[0].min() < 0


def test_the_same_generator_gives_the_same_views_and_another_others() -> None:
    maker, batch = LesionViews(PAPER, n_small_crops=6), _batch()
    first, again, other = (maker(batch, _generator(seed)) for seed in (5, 5, 6))
    for a, b, c in zip(first.lesions + first.negatives, again.lesions + again.negatives, other.lesions, strict=False):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert [view.shape[-1] for view in first.lesions] == [50, 50, 25, 25, 25, 25, 25, 25]
    assert [view.shape[-1] for view in first.negatives] == [50, 50]


def test_no_two_views_of_a_batch_are_alike() -> None:
    alike = PatchBatch(
        _patches(n=1).expand(4, -1, -1, -1, -1), torch.arange(4), _patches(n=1).expand(4, -1, -1, -1, -1)
    )
    views = LesionViews(PAPER)(alike, _generator())
    samples = torch.cat([*views.lesions, *views.negatives]).flatten(1)
    distances = torch.cdist(samples, samples) + torch.eye(len(samples))
    assert distances.min() > 0.01


def test_other_members_and_order_of_a_batch_do_not_change_a_view() -> None:
    maker, batch = LesionViews(PAPER, n_small_crops=1), _batch()
    assert batch.randoms_hu is not None
    order = torch.tensor([4, 1])
    part = PatchBatch(batch.lesions_hu[order], batch.lesion_rows[order], batch.randoms_hu[order])
    whole, parts = maker(batch, _generator()), maker(part, _generator())
    for a, b in zip(whole.lesions + whole.negatives, parts.lesions + parts.negatives, strict=True):
        torch.testing.assert_close(a[order], b, atol=1e-6, rtol=0)  # sums in another order, no more


def test_each_step_is_taken_as_often_as_the_settings_say() -> None:
    keys = derive_keys(torch.tensor(1), torch.arange(20_000), 0)
    parameters = draw_parameters(keys, 50, PAPER)
    for chosen in (parameters.shifted, parameters.smoothed, *parameters.flips.unbind(1)):
        assert chosen.float().mean().item() == pytest.approx(0.5, abs=0.015)
    assert torch.corrcoef(parameters.flips.float().T).fill_diagonal_(0).abs().max() < 0.03
    one = draw_parameters(keys, 50, replace(PAPER, flips=Flips.ONE_AXIS)).flips.float()
    assert one.sum(dim=1).max() == 1
    assert one.mean(dim=0).tolist() == pytest.approx([1 / 6] * 3, abs=0.015)
    assert (parameters.sigmas.min().item(), parameters.sigmas.max().item()) == pytest.approx((0.25, 1.5), abs=1e-3)


def test_crops_are_half_to_whole_edges_anywhere_in_the_patch() -> None:
    keys = derive_keys(torch.tensor(1), torch.arange(20_000), 0)
    parameters = draw_parameters(keys, 50, PAPER)
    edges = parameters.edges
    assert set(edges[:, 0].int().tolist()) == set(range(26, 51)) | ({25} & set(edges[:, 0].int().tolist()))
    assert parameters.starts.min() == 0
    assert (parameters.starts + edges).max() == 50
    small = draw_parameters(keys, 50, replace(PAPER, keep_radius=-1), small=True)
    assert set(small.edges[:, 0].int().tolist()) - {15} == set(range(16, 26))  # 15 only for 0.3 exactly
    assert small.starts.min() == 0
    assert (small.starts + small.edges).max() == 50
    by_volume = draw_parameters(keys, 50, replace(PAPER, crop_measure=CropMeasure.VOLUME)).edges
    assert by_volume.min() == 40  # the cube root of a half is 0.794
    with_margin = draw_parameters(keys, 64, PAPER)
    assert torch.equal(with_margin.starts, parameters.starts + 7)


@pytest.mark.parametrize("small", [False, True])
def test_the_seed_stays_in_every_crop_and_its_surroundings_if_asked(small: bool) -> None:
    keys = derive_keys(torch.tensor(2), torch.arange(5_000), 0)
    for keep in (0, 5):
        parameters = draw_parameters(keys, 50, replace(PAPER, keep_radius=keep), small=small)
        assert (parameters.starts <= 25 - keep).all()
        assert (parameters.starts + parameters.edges > 25 + keep).all()


def test_a_lesion_that_is_kept_is_seen_in_every_view() -> None:
    patches = torch.full((40, 1, 50, 50, 50), -800, dtype=torch.int16)
    patches[:, :, 21:30, 21:30, 21:30] = 60
    settings = replace(PAPER, keep_radius=4, shift_probability=0)
    views = LesionViews(settings, n_small_crops=2)(PatchBatch(patches, torch.arange(40)), _generator())
    for view in views.lesions:
        lesion_voxels = (view > (-300 + 1024) / 3072).sum(dim=(1, 2, 3, 4))
        assert (lesion_voxels >= (9 * view.shape[-1] / 50 - 1.5) ** 3).all()  # never smaller than in the patch


def test_larger_crops_and_jitter_need_a_margin() -> None:
    check_margin(PAPER, 0)
    wide = replace(PAPER, scale=(0.8, 1.2), jitter=2)
    with pytest.raises(ConfigError, match=r"reach 7 voxels beyond the patch of 50, the margin is 6"):
        check_margin(wide, 6)
    check_margin(wide, 7)
    parameters = draw_parameters(derive_keys(torch.tensor(2), torch.arange(5_000), 0), 64, wide)
    assert parameters.starts.min() >= 0
    assert (parameters.starts + parameters.edges).max() <= 64


def test_levels_are_drawn_as_monai_draws_them() -> None:
    levels = draw_parameters(derive_keys(torch.tensor(3), torch.arange(20_000), 0), 50, PAPER).levels.double()
    assert (levels.diff(dim=1) >= 0).all()
    assert (levels[:, 0] == 0).all()
    assert (levels[:, -1] == 1).all()
    transform = monai.RandHistogramShift(10, prob=1.0).set_random_state(seed=0)
    drawn = []
    for _ in range(20_000):
        transform.randomize()
        drawn.append(np.array(transform.floating_control_points))
    expected = torch.from_numpy(np.stack(drawn))
    torch.testing.assert_close(levels.mean(0), expected.mean(0), atol=0.005, rtol=0)
    torch.testing.assert_close(levels.std(0), expected.std(0), atol=0.005, rtol=0)


def test_a_patch_of_one_grey_value_survives_the_histogram_shift() -> None:
    flat = torch.full((2, 5, 5, 5), -1024.0)
    levels = draw_parameters(derive_keys(torch.tensor(3), torch.arange(2), 0), 50, PAPER).levels
    assert torch.equal(shift_histogram(flat, levels), flat)


def test_uniform_is_splitmix64() -> None:
    # the first outputs of SplitMix64 for seed 1234567, as its authors' reference code prints them
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    expected = [(value >> 40) * 2.0**-24 for value in outputs]
    assert uniform(torch.tensor([1234567]), 5)[0].tolist() == expected


def test_numbers_of_neighbouring_rows_and_streams_are_independent_and_even() -> None:
    numbers = torch.cat([uniform(derive_keys(torch.tensor(7), torch.arange(5_000), stream), 4) for stream in (0, 1)], 1)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert torch.histc(numbers, 10, 0, 1).div(numbers.numel()).tolist() == pytest.approx([0.1] * 10, abs=0.006)
    assert torch.corrcoef(numbers.T).fill_diagonal_(0).abs().max() < 0.06
    assert torch.corrcoef(torch.stack([numbers[1:, 0], numbers[:-1, 0]]))[0, 1].abs() < 0.06


@pytest.mark.gpu
def test_views_on_a_gpu_are_those_of_the_cpu() -> None:
    parameters = draw_parameters(derive_keys(torch.tensor(3), torch.arange(N), 0), 50, PAPER)
    on_gpu = draw_parameters(derive_keys(torch.tensor(3).cuda(), torch.arange(N).cuda(), 0), 50, PAPER)
    for a, b in zip(parameters, on_gpu, strict=True):
        torch.testing.assert_close(a, b.cpu())
    view = make_view(_patches(), parameters, PAPER, size=50)
    gpu_view = make_view(_patches().cuda(), on_gpu, PAPER, size=50)
    torch.testing.assert_close(view, gpu_view.cpu(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"sigma": (2.0, 1.0)}, "sigma"),
        ({"flip_probability": 1.5}, "flip_probability"),
        ({"control_points": 2}, "control_points"),
        ({"jitter": -1}, "jitter"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(PAPER, **wrong)  # type: ignore[arg-type]
