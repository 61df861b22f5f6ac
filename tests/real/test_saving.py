"""Classifiers on real models are saved, exported, and exchanged with PEFT and transformers."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import peft
import pytest
import torch
from sklearn.base import clone
from transformers import AutoModelForCausalLM, AutoTokenizer

import instructclf
from instructclf.engine.models.loading import BaseModel
from tests.real.models import RealModel
from tests.real.rows import LABELS, TEXTS, UNSEEN


@pytest.mark.parametrize("way", ["save", "pickle"])
def test_a_loaded_classifier_predicts_the_same_to_the_last_bit(
    way, real_model, tuned, n_loads, tmp_path
):
    for classifier in (tuned, real_model.prompting(calibration="auto").fit(TEXTS, LABELS)):
        if way == "save":
            classifier.save(tmp_path / "saved")
            again = instructclf.load(tmp_path / "saved")
        else:
            again = pickle.loads(pickle.dumps(classifier))
        expected = classifier.predict_proba(UNSEEN)
        np.testing.assert_array_equal(again.predict_proba(UNSEEN), expected)
    assert n_loads() == 0


def test_a_clone_that_is_fitted_again_scores_the_same_on_the_same_model(real_model, n_loads):
    classifier = real_model.prompting().fit(TEXTS, LABELS)
    again = clone(classifier).fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(UNSEEN)
    np.testing.assert_array_equal(again.label_log_likelihood(UNSEEN), expected)
    assert n_loads() == 0


def test_a_saved_adapter_scores_the_same_in_peft(real_model, tuned, tmp_path):
    tuned.save(tmp_path / "saved")
    expected = real_model.score(tuned, UNSEEN, real_model.with_adapter(tmp_path / "saved"))
    np.testing.assert_allclose(tuned.label_log_likelihood(UNSEEN), expected, rtol=2e-5, atol=1e-4)


def test_an_adapter_that_peft_saved_is_a_base_model(real_model, large_folder):
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = peft.get_peft_model(copy.deepcopy(real_model.base.model), config).eval()
    model.peft_config["default"].base_model_name_or_path = real_model.safetensors
    model.save_pretrained(large_folder)
    classifier = real_model.prompting(str(large_folder), n_shots=0).fit(TEXTS, LABELS)
    scores = classifier.label_log_likelihood(UNSEEN)
    expected = real_model.score(classifier, UNSEEN, model)
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=1e-4)


def test_transformers_reads_an_exported_model(tuned, large_folder):
    tuned.export(large_folder)
    model = AutoModelForCausalLM.from_pretrained(large_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(large_folder)
    exported = RealModel("exported", "", BaseModel("exported", model, tokenizer), large_folder)
    record = json.loads((large_folder / "prompt.json").read_text())
    answers = [answer for (answer,) in record["answers"]]
    prompts = [record["before"] + text + record["after"] for text in TEXTS[:3]]
    scores = [exported.score_prompt(prompt, answers) for prompt in prompts]
    expected = tuned.label_log_likelihood(TEXTS[:3])
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=1e-4)
