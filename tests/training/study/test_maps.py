"""Maps show planted classes apart, are the same twice, and their PCA is that of the covariance's eigenvectors."""

from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
import yaml

from training.__main__ import main
from training.adaptation.feature_table import FeatureMeta, FeatureTable, write_feature_table
from training.study.maps import MapsSettings, class_spread, density_levels, map_features

N, D = 60, 12


def features(apart):
    """Three classes whose means are so many standard deviations apart, along three of the features."""
    rng = np.random.default_rng(0)
    number = np.arange(N) % 3
    values = rng.standard_normal((N, D)).astype(np.float32)
    values[np.arange(N), number] += apart
    return values, number


@pytest.fixture
def study(tmp_path):
    values, number = features(12.0)
    split = ["test" if n < 45 else "train" for n in range(N)]
    names = [["lung", "bone", ""][k] for k in number]
    frame = pd.DataFrame({"patient": [f"p{n}" for n in range(N)], "split": split, "label": names})
    write_feature_table(tmp_path / "features.parquet", FeatureTable(frame, values, FeatureMeta("mini")))
    plain = {"output": "out", "name": "task 1", "features": "features.parquet", "perplexities": [5, 10]}
    (tmp_path / "maps.yml").write_text(yaml.safe_dump(plain | {"splits": ["test"]}))
    return tmp_path


def test_classes_that_are_apart_are_apart_on_every_map(study):
    with chdir(study):
        assert main(["maps", "maps.yml"]) == 0
    points = pd.read_csv(study / "out/task-1.points.csv", keep_default_na=False)
    assert [name.partition(",")[0] for name in points["map"].unique()] == ["PCA", "t-SNE", "t-SNE"]
    assert points.groupby("map").size().tolist() == [45, 45, 45]
    assert set(points["label"]) == {"lung", "bone", ""}
    spread = pd.read_csv(study / "out/task-1.spread.csv")
    assert (spread["silhouette"] > 0.2).all()
    assert spread["n"].tolist() == [30, 30, 30]  # without those that have no label
    assert {path.suffix for path in (study / "out").glob("feature-map.task-1.*")} == {".csv", ".png", ".svg"}


def test_maps_are_the_same_twice():
    values, _ = features(3.0)
    settings = MapsSettings("o", "n", "f", perplexities=(7.0,))
    first, second = map_features(values, settings), map_features(values, settings)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)


def test_classes_that_are_the_same_are_mixed():
    values, number = features(0.0)
    (plane,) = map_features(values, MapsSettings("o", "n", "f", perplexities=())).values()
    points = pd.DataFrame({"x": plane[:, 0], "y": plane[:, 1], "label": [str(k) for k in number]})
    assert abs(class_spread(points)["silhouette"]) < 0.1


@pytest.mark.parametrize("standardise", [True, False])
def test_pca_is_that_of_the_eigenvectors_of_the_covariance(standardise):
    values, _ = features(6.0)
    values = values * np.arange(1, D + 1, dtype=np.float32)
    ((name, plane),) = map_features(
        values, MapsSettings("o", "n", "f", perplexities=(), standardise=standardise)
    ).items()
    matrix = np.corrcoef(values.T) if standardise else np.cov(values.T.astype(np.float64))
    variances = np.linalg.eigvalsh(matrix)[::-1]
    measured = plane.var(axis=0, ddof=0 if standardise else 1)
    np.testing.assert_allclose(measured, variances[:2], rtol=1e-4)
    assert name.startswith(f"PCA, {variances[0] / variances.sum():.0%} and {variances[1] / variances.sum():.0%} ")


def test_contours_hold_their_shares_of_a_class():
    at = np.random.default_rng(1).standard_normal((200, 2))
    found = density_levels(at)
    assert found is not None
    densities, levels = found
    np.testing.assert_allclose([(densities >= level).mean() for level in levels], [0.75, 0.5, 0.25], atol=0.01)
    # the denser half of a round normal cloud is nearer to its middle than the other half
    far = np.hypot(*at.T)
    assert far[densities >= levels[1]].mean() < far[densities < levels[1]].mean() / 1.5
    assert density_levels(np.stack([np.arange(9.0), np.arange(9.0)], axis=1)) is None


def test_a_perplexity_beyond_the_lesions_and_a_lack_of_splits_are_refused(study, caplog):
    plain = yaml.safe_load((study / "maps.yml").read_text())
    with chdir(study):
        for message, change in {"too large": {"perplexities": [45]}, "0 lesions": {"splits": ["val"]}}.items():
            (study / "wrong.yml").write_text(yaml.safe_dump(plain | change))
            assert main(["maps", "wrong.yml"]) in (2, 3)
            assert message in caplog.text
