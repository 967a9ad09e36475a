"""A fine-tuned model predicts from its features what it predicts from patches; heads of other features are refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fmcib_module import Seed, extract_patch, read_volume
from fmcib_module.adapters.extractor_networks import new_network
from fmcib_module.adapters.head_file import write_head
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.heads import Head, HeadKind
from fmcib_module.settings import Device
from tests.training import scans
from training.adaptation.feature_table import FeatureMeta, FeatureTable
from training.adaptation.finetuned import FineTuned, make_head, probabilities, write_finetuned
from training.adaptation.lesions import LesionSettings
from training.lesion_table import read_lesion_table
from training.study.models import StudyModel, binary_or_risk, model_features, model_scores


def fine_tuned(folder, classes='["a", "b"]'):
    torch.manual_seed(1)
    model = FineTuned(new_network("mini", width=0.25), make_head((128, 4, 1))).eval()
    write_finetuned(folder / "best.torch", model)
    if classes:
        (folder / "best.json").write_text('{"classes": ' + classes + "}")
    return model


def table_of(values, **meta):
    frame = pd.DataFrame({"patient": [f"p{n}" for n in range(len(values))]})
    return FeatureTable(frame, np.asarray(values, dtype=np.float32), FeatureMeta("mini", **meta))


def test_a_fine_tuned_model_predicts_from_features_as_from_patches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scans.make_inputs(tmp_path, n_scans=2)
    model = fine_tuned(tmp_path)
    chosen = StudyModel("tuned", "mini=best.torch", "best.torch")
    table = model_features(chosen, LesionSettings(table="lesions.csv"), tmp_path / "features", Device.CPU)
    scores, classes = model_scores(chosen, table)
    assert classes == ("a", "b")
    for row, found in zip(read_lesion_table(tmp_path / "lesions.csv").rows, scores, strict=True):
        patch = extract_patch(read_volume(tmp_path / row.image), Seed(row.lps_mm, "", ""))
        with torch.no_grad():
            expected = probabilities(model(torch.from_numpy(patch.voxels.copy())[None, None]))[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(binary_or_risk(scores, classes), scores[:, 1])


def test_a_fine_tuned_model_without_its_classes_or_with_other_features_is_refused(tmp_path):
    fine_tuned(tmp_path, classes="")
    chosen = StudyModel("tuned", "mini", str(tmp_path / "best.torch"))
    with pytest.raises(ConfigError, match="classes of the fine-tuned model are unknown"):
        model_scores(chosen, table_of(np.zeros((2, 128))))
    with pytest.raises(ConfigError, match="takes 128 features, the table has 7"):
        model_scores(chosen, table_of(np.zeros((2, 7))))


def test_a_head_of_other_weights_is_refused_and_one_of_many_classes_has_no_one_number(tmp_path):
    shape: dict[str, Any] = {"coefficients": np.eye(3), "intercepts": np.zeros(3)}
    made = {"extractor": "mini", "weights_sha256": "a" * 64, "mode": "published"}
    write_head(
        tmp_path / "head.json", Head("h", HeadKind.LOGISTIC, ("x", "y", "z"), np.zeros(3), np.ones(3), **shape, **made)
    )
    chosen = StudyModel("m", "mini", str(tmp_path / "head.json"))
    scores, classes = model_scores(chosen, table_of(np.eye(3), weights_sha256="a" * 64, mode="published"))
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="3 classes"):
        binary_or_risk(scores, classes)
    with pytest.raises(ConfigError, match="other weights"):
        model_scores(chosen, table_of(np.eye(3), weights_sha256="b" * 64, mode="published"))
