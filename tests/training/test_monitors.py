"""Monitors against values that are known in closed form."""

import logging
import math
from typing import Any

import pytest
import torch

from training.monitors import (
    FeatureMonitor,
    alignment,
    effective_rank,
    knn_balanced_accuracy,
    uniformity,
)
from training.settings import TrainerSettings

BASIS = torch.eye(4)


def test_alignment_is_0_for_equal_views_2_for_orthogonal_and_4_for_opposite_ones() -> None:
    assert alignment(3 * BASIS, BASIS) == pytest.approx(0)
    assert alignment(BASIS, BASIS.roll(1, 0)) == pytest.approx(2)
    assert alignment(BASIS, -BASIS) == pytest.approx(4)


def test_uniformity_of_orthogonal_rows_is_minus_4_and_of_equal_rows_0() -> None:
    assert uniformity(BASIS) == pytest.approx(-4)  # squared distance 2 in each pair, e^(-2 * 2)
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0)


def test_effective_rank_counts_equal_directions_and_discounts_weak_ones() -> None:
    plus_and_minus = torch.cat([BASIS, -BASIS])
    assert effective_rank(plus_and_minus) == pytest.approx(4)
    assert effective_rank(plus_and_minus + 100) == pytest.approx(4)  # the mean is no direction
    assert effective_rank(torch.ones(5, 3)) == 1
    two = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(two) == pytest.approx(math.exp(entropy))


def test_knn_lets_no_patch_of_the_own_patient_vote() -> None:
    features = torch.tensor([[1, 0.0], [1, 0.1], [0, 1.0], [0.1, 1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert knn_balanced_accuracy(features, labels, torch.arange(4), neighbours=1) == 1
    assert knn_balanced_accuracy(features, labels, torch.tensor([0, 0, 1, 1]), neighbours=1) == 0


def test_knn_weighs_classes_equally() -> None:
    features = torch.tensor([[1, 0.0], [1, 0.1], [1, 0.2], [1, 0.3], [0, 1.0], [1, 0.15]])
    labels = torch.tensor([0, 0, 0, 0, 1, 1])  # the last lies between the second and the third, and misleads both
    assert knn_balanced_accuracy(features, labels, torch.arange(6), neighbours=1) == pytest.approx((2 / 4 + 0 / 2) / 2)


def test_collapse_raises_a_warning_that_says_what_to_try(caplog: pytest.LogCaptureFixture) -> None:
    monitor: Any = FeatureMonitor(TrainerSettings())
    with caplog.at_level(logging.WARNING):
        monitor._warn(1.2, epoch=3)
        monitor._warn(1.1, epoch=3)
        monitor._warn(30.0, epoch=4)
    (record,) = caplog.records
    assert "effective rank 1.2 in epoch 3" in record.message
    assert "more lesions per step" in record.message
