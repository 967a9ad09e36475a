"""The quality measures: descriptors against geometry, and the verb."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from fmcib_module.adapters.tensor_file import write_tensors
from tests.adapters.small_weights import small_tensors
from tests.training import scans
from training.__main__ import main
from training.cache import LesionCache
from training.descriptors import NAMES, describe
from training.prepare import build_cache
from training.quality_data import JITTER_MM, NOISE_HU, Labelled, read_repeats
from training.quality_models import random_network
from training.quality_probe import best_penalty, ridge_scores
from training.quality_tasks import tell_classes


def _ball(radius: float, inside_hu: float = 60.0, outside_hu: float = -100.0) -> Tensor:
    axis = torch.arange(50) - 25
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    inside = (z**2 + y**2 + x**2).sqrt() <= radius
    return torch.where(inside, inside_hu, outside_hu)[None, None]


def _feature(patch: Tensor, name: str) -> float:
    return float(describe(patch)[0, NAMES.index(name)])


@pytest.mark.parametrize("radius", [6.0, 9.0, 14.0])
def test_the_region_around_the_seed_is_as_large_as_the_ball(radius: float) -> None:
    assert _feature(_ball(radius), "region40_mean") == pytest.approx(
        radius / 10, abs=0.2
    )  # the smoothed edge is thicker
    assert _feature(_ball(radius), "region40_elongation") > 0.6  # whole millimetres


def test_histograms_and_profile_are_those_of_the_ball() -> None:
    patch = _ball(12.0)
    assert _feature(patch, "ball12_below_-60") == 0
    assert _feature(patch, "patch_below_-60") == pytest.approx(1 - 4 / 3 * np.pi * 12**3 / 50**3, abs=0.01)
    assert _feature(patch, "shell3_6_soft_mean") == pytest.approx(0.6, rel=1e-3)
    assert _feature(patch, "shell20_25_soft_mean") == pytest.approx(-1.0, rel=1e-3)
    assert _feature(patch, "ball5_gradient_mean") == 0


def test_there_are_about_90_descriptors_that_flips_and_turns_leave_alone() -> None:
    patches = 300 * torch.randn(5, 1, 50, 50, 50, generator=torch.Generator().manual_seed(0)) - 200
    patches[:, :, 0] = patches[:, :, :, 0] = patches[:, :, :, :, 0] = 0  # voxel 0 has no mirror image about voxel 25
    described = describe(patches)
    assert described.shape == (5, len(NAMES))
    assert 80 <= len(NAMES) <= 100
    assert len(set(NAMES)) == len(NAMES)
    turned = torch.roll(patches.flip(2), 1, dims=2).transpose(3, 4)
    whole = torch.tensor([name.startswith("patch") for name in NAMES])  # every second voxel: not the same ones
    torch.testing.assert_close(describe(turned)[:, ~whole], described[:, ~whole], atol=1e-2, rtol=1e-3)


def test_repeats_are_near_the_lesion_and_as_noisy_as_they_say(tmp_path: Path) -> None:
    cache = scans.make_cache(tmp_path, n_scans=2, lesions_per_scan=3)
    lesions = read_repeats(cache, "train", 2, seed=3)
    assert sorted(lesions.patients) == ["p0", "p0", "p1", "p1"]
    noise = lesions.noisy_hu[0] - lesions.patches_hu
    assert noise.std().item() == pytest.approx(NOISE_HU, rel=0.01)
    for patch, moved in zip(lesions.patches_hu, lesions.displaced_hu[0], strict=True):
        steps = range(-JITTER_MM, JITTER_MM + 1)
        found = [
            (z, y, x)
            for z in steps
            for y in steps
            for x in steps
            if torch.equal(patch[0, 20 + z : 30 + z, 20 + y : 30 + y, 20 + x : 30 + x], moved[0, 20:30, 20:30, 20:30])
        ]
        assert len(found) == 1
        assert 0 < np.linalg.norm(found[0]) <= JITTER_MM


def test_points_of_tissue_are_no_lesions_to_be_found_again(tmp_path: Path) -> None:
    settings = replace(scans.make_inputs(tmp_path, n_scans=1, lesions_per_scan=3), tissue_points=20)
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    assert len(cache.rows("train")) > 10
    assert len(read_repeats(cache, "train", 20, seed=0).patients) == 3


def _points(n_patients: int = 6) -> Labelled:
    """Two classes that differ in brightness alone, another offset for each patient."""
    rng = np.random.default_rng(0)
    labels = ["bright", "dark"] * 4 * n_patients
    patients = [f"p{n // 8}" for n in range(len(labels))]
    patches = torch.zeros(len(labels), 1, 50, 50, 50)
    for n, label in enumerate(labels):
        patches[n] += (80.0 if label == "bright" else 20.0) + rng.normal(0, 2)
    splits = ["test" if p in ("p0", "p1") else "val" if p == "p2" else "train" for p in patients]
    return Labelled(patches, labels, patients, splits, np.zeros((len(labels), 3)))


def test_a_probe_tells_what_can_be_told_and_judges_the_split_alone() -> None:
    def brightness(patches: Tensor) -> np.ndarray:
        return patches.mean(dim=(1, 2, 3, 4), dtype=torch.float64)[:, None].numpy()

    def nothing(patches: Tensor) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(len(patches), 3))

    points = _points()
    outcome = tell_classes(points, {"a": brightness, "b": nothing}, ("bright", "dark"), "test", "brightness")
    assert outcome.clusters == ["p0"] * 8 + ["p1"] * 8
    assert outcome.metrics["a"](outcome.all_items) == 1
    assert outcome.metrics["b"](outcome.all_items) < 0.9


def test_probes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for labels in (rng.integers(0, 2, 60), rng.integers(0, 4, 60) + 1):  # of the second, class 0 was not seen
        seen, features = rng.normal(size=(60, 90)), rng.normal(size=(25, 90))
        scores = ridge_scores(seen, labels, features, (0.1, 100.0), 5)
        for alpha, decision in zip((0.1, 100.0), scores, strict=True):
            scaler = StandardScaler().fit(seen)
            theirs = RidgeClassifier(alpha=alpha, class_weight="balanced").fit(scaler.transform(seen), labels)
            expected = theirs.decision_function(scaler.transform(features))
            found = decision[:, 1] if labels.max() == 1 else decision[:, 1:]
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
            assert np.isneginf(decision[:, 0 if labels.max() > 1 else 2]).all()


def test_a_penalty_is_chosen_by_patients_not_by_points() -> None:
    """Features that name the patient's own class fit all points of known patients and help with none that is new."""
    rng = np.random.default_rng(0)
    groups = np.repeat([f"p{n}" for n in range(10)], 20)
    labels = np.tile([0, 1], 100)
    truth = np.where(labels == 1, 1.0, -1.0)[:, None] + rng.normal(0, 2, (200, 1))
    cells = np.array([int(group[1:]) * 2 + label for group, label in zip(groups, labels, strict=True)])
    misleading = np.eye(20)[cells] * 3 + rng.normal(0, 0.05, (200, 20))
    features = np.concatenate([truth, misleading], axis=1)
    by_patient = best_penalty(features, labels, groups)
    by_point = best_penalty(features, labels, np.arange(200).astype(str))
    assert by_patient > 10 * by_point
    assert best_penalty(truth, labels, np.repeat("p0", 200)) == 1.0  # one patient tells nothing about others


def test_while_choosing_the_test_patients_are_not_even_fitted_on() -> None:
    points = _points()
    poisoned = replace(
        points,
        labels=[
            label if split != "test" else {"bright": "dark", "dark": "bright"}[label]
            for label, split in zip(points.labels, points.splits, strict=True)
        ],
    )

    def brightness(patches: Tensor) -> np.ndarray:
        return patches.mean(dim=(1, 2, 3, 4), dtype=torch.float64)[:, None].numpy()

    outcome = tell_classes(poisoned, {"a": brightness}, ("bright", "dark"), "val", "brightness")
    assert outcome.metrics["a"](outcome.all_items) == 1


@pytest.mark.parametrize("split", ["test", "val"])  # one patient of its own; none, so that the training's stands in
def test_one_patients_blocks_are_judged_by_its_points_that_are_apart(split: str) -> None:
    """Two far halves agree; what lies beside a point says the opposite, and must not be fitted on."""
    centres = np.array([[side * 200.0 + dx, 10.0, 10.0] for side in (0, 1) for dx in (2, 8, 44, 46) for _ in range(4)])
    labels = ["bright", "dark"] * 16
    grey = np.where(np.array(labels) == "bright", 80.0, 20.0)
    beside = centres[:, 0] % 200 > 45  # in the next block, 2 mm from a point of the first one
    grey[beside] = 100 - grey[beside]
    other = ["p1"] * 32
    patches = torch.from_numpy(grey).float()[:, None, None, None, None].expand(-1, 1, 50, 50, 50)
    points = Labelled(patches, labels, other, ["test" if split == "test" else "train"] * 32, centres)
    poisoned = Labelled(  # another patient of the other split, where everything is the other way round
        torch.cat([patches, 100 - patches[:8]]),
        labels + labels[:8],
        other + ["p2"] * 8,
        points.splits + ["train" if split == "test" else "test"] * 8,
        np.concatenate([centres, centres[:8]]),
    )

    def brightness(patches: Tensor) -> np.ndarray:
        return patches.mean(dim=(1, 2, 3, 4), dtype=torch.float64)[:, None].numpy()

    outcome = tell_classes(poisoned, {"a": brightness}, ("bright", "dark"), split, "brightness")
    assert len(outcome.clusters) == 32
    assert len(set(outcome.clusters)) == 4  # blocks of 45 mm
    first = np.flatnonzero(centres[:, 0] < 30)
    assert outcome.metrics["a"](first) == 1


def test_random_networks_differ_by_seed_and_have_the_statistics_of_real_patches() -> None:
    patches = 200 * torch.randn(8, 1, 50, 50, 50, generator=torch.Generator().manual_seed(0))
    first, again, other = (random_network(0.0625, seed, patches)(patches) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.isfinite(first).all()
    assert 0.1 < first.std() < 10


@pytest.mark.slow
def test_the_verb_writes_a_report_with_every_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = replace(scans.make_inputs(tmp_path, n_scans=4, lesions_per_scan=4), val=0.5)
    build_cache(settings, tmp_path)
    write_tensors(tmp_path / "w.safetensors", {k: v.numpy() for k, v in small_tensors().items()}, {})
    wanted = {
        "weights": "w.safetensors", "lesions": "cache", "points": "cache", "tasks": ["class: class0, class1"],
        "lesions_per_patient": 4, "random_networks": 1, "n_resamples": 20, "report": "report.json",
    }  # fmt: skip
    (tmp_path / "q.yml").write_text(yaml.safe_dump(wanted))
    with caplog.at_level(logging.INFO):
        assert main(["quality", "q.yml"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["tasks"]) == {"class", "retrieval", "icc_displaced", "icc_noise", "effective_rank"}
    for task in report["tasks"].values():
        assert set(task["models"]) == {"weights", "hand-made", "random 1"}
        assert task["clusters"] == 2
    assert any(record.message.startswith("| retrieval | ") for record in caplog.records)
