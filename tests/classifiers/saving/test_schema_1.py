"""Folders of schema 1, with flat parameters, load with the parameters of today."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from instructclf import LoRA, ModelOptions, TrainingOptions, load
from instructclf.exceptions import SavedClassifierError

FOLDER = Path(__file__).parents[2] / "data" / "saved" / "schema-1"


def load_changed(name, tmp_path, change):
    """Load a folder of schema 1 after a change to its record."""
    folder = shutil.copytree(FOLDER / name, tmp_path / name)
    path = folder / "classifier.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    return load(folder, model=str(FOLDER / "base"))


def load_with(name, tmp_path, **parameters):
    return load_changed(name, tmp_path, lambda record: record["parameters"].update(parameters))


def test_model_parameters_become_model_options(tmp_path):
    options = {"max_length": 300, "device": "cpu", "max_batch_tokens": None}
    classifier = load_with("prompting", tmp_path, **options)
    assert repr(classifier.model_options) == "ModelOptions(device='cpu', max_length=300)"
    assert repr(load_with("tuning", tmp_path).model_options) == repr(ModelOptions())


def test_lora_parameters_become_an_adapter(tmp_path):
    options = {"lora_alpha": 3.0, "lora_dropout": 0.5, "target_modules": ["q_proj"]}
    classifier = load_with("tuning", tmp_path, **options, n_tuned_layers=1)
    expected = LoRA(alpha=3.0, dropout=0.5, n_layers=1, rank=1, target_modules=["q_proj"])
    assert repr(classifier.adapter) == repr(expected)


def test_a_configuration_of_peft_becomes_an_adapter():
    classifier = load(FOLDER / "tuning-ia3", model=str(FOLDER / "base"))
    assert type(classifier.adapter).__name__ == "IA3Config"


def test_training_parameters_become_training_options(tmp_path):
    options = {"tol": 0.0, "warm_start": True, "train_batch_size": 3}
    classifier = load_with("tuning-average", tmp_path, **options)
    assert classifier.batch_size == 3
    expected = TrainingOptions(seed_average="adapter", tol=0.0, warm_start=True)
    assert repr(classifier.training_options) == repr(expected)
    assert len(classifier.estimators_) == 2


def test_samplers_and_shots_per_text_are_kept(tmp_path):
    classifier = load(FOLDER / "prompting-own-shots", model=str(FOLDER / "base"))
    assert classifier.sampler == "knn"
    assert [len(shots) for shots in classifier.shots_for(["a", "b"])] == [2, 2]
    seeds = load(FOLDER / "prompting-seeds", model=str(FOLDER / "base"))
    assert type(seeds.sampler).__name__ == "KMeansSampler"


def test_a_loaded_classifier_is_saved_in_the_new_schema(tmp_path):
    classifier = load(FOLDER / "tuning-seeds", model=str(FOLDER / "base"))
    classifier.save(tmp_path / "saved")
    record = json.loads((tmp_path / "saved" / "classifier.json").read_text(encoding="utf-8"))
    assert record["schema"] > 1
    expected = classifier.predict_log_proba(["good"])
    assert load(tmp_path / "saved").predict_log_proba(["good"]).tolist() == expected.tolist()


def test_calibration_by_the_batch_is_an_error_with_a_remedy(tmp_path):
    def change(record):
        record["attributes"]["calibration_"] = {"record": "BatchCalibration", "fields": {}}

    with pytest.raises(SavedClassifierError, match="calibration='batch'.*Fit it again with"):
        load_changed("prompting", tmp_path, change)
