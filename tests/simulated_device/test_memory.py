"""When a device runs out of memory, batches are halved, no text is lost, and no shortcut either."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from instructclf import InstructionTunedClassifier, ModelOptions, PromptClassifier
from instructclf.engine.scoring import strategies
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.exceptions import ScoringError
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

MANY = [f"a thing of number {i}, about which there is more to say" for i in range(40)]
WHOLE = ModelOptions(max_batch_tokens=10**5)
MIB = 2**20


def fit(model, **changes):
    classifier = PromptClassifier(model, n_shots=4, calibration=None, random_state=0)
    return classifier.set_params(model_options=WHOLE, **changes).fit(TEXTS, LABELS)


def limit(gpu, n_bytes):
    """Leave so many bytes in addition to those in use."""
    gpu.n_bytes = gpu.n_allocated + n_bytes


def test_a_batch_that_does_not_fit_is_halved_and_no_text_is_lost(machine, model_folder, caplog):
    classifier = fit(model_folder)
    expected = classifier.label_log_likelihood(MANY)
    gpu = machine.gpus[0]
    needed = gpu.n_peak - gpu.n_allocated
    limit(gpu, needed * 3 // 4)
    with caplog.at_level(logging.WARNING, "instructclf"):
        scores = classifier.label_log_likelihood([f"{text}." for text in MANY])
    assert caplog.text.count("Memory ran out: continuing with") >= 1
    gpu.n_bytes = 80 * 2**30
    fresh = fit(model_folder)
    np.testing.assert_allclose(
        fresh.label_log_likelihood([f"{t}." for t in MANY]), scores, atol=1e-3
    )
    np.testing.assert_allclose(fresh.label_log_likelihood(MANY), expected, atol=1e-3)


def test_a_single_text_that_does_not_fit_is_an_error_with_a_remedy(machine, model_folder):
    classifier = fit(model_folder)
    classifier.predict(MANY[:2])
    limit(machine.gpus[0], MIB // 16)
    with pytest.raises(ScoringError, match="Memory ran out with a single text.*Lower max_length"):
        classifier.predict(["long " * 200])


def test_memory_does_not_grow_with_the_number_of_texts(machine, model_folder):
    classifier = fit(model_folder, model_options__max_batch_tokens=128)
    classifier.predict(MANY[:4])
    gpu, peaks = machine.gpus[0], []
    for n_texts in (10, 40):
        gpu.n_peak = gpu.n_allocated
        classifier.predict([f"{text} {n_texts}" for text in MANY[:n_texts]])
        peaks.append(gpu.n_peak)
    assert peaks[1] <= 1.1 * peaks[0]


def test_a_shortcut_that_once_lacked_memory_is_tried_again(machine, model_folder):
    classifier = fit(model_folder, model_options__dtype="float32")
    limit(machine.gpus[0], 40_000)  # enough for a probe, and too little for its prefix
    with pytest.raises(torch.OutOfMemoryError):
        classifier.predict(MANY)
    limit(machine.gpus[0], 100 * MIB)
    classifier.predict(MANY)
    assert {found.prefix for found in strategies._found.values()} == {PrefixAttention}


def test_batches_leave_room_for_the_copies_of_a_prefix(machine, caplog):
    # Bloom keeps its prefix in a cache, of which each row gets a copy.
    shape = {"hidden_size": 64, "num_key_value_heads": 4, "num_hidden_layers": 12}
    model = make_model("bloom", **shape).to("cuda")
    classifier = fit((model, make_tokenizer()), n_shots=16)
    gpu = machine.gpus[0]
    classifier.predict(MANY[:2])
    assert {found.prefix for found in strategies._found.values()} == {PrefixCache}
    limit(gpu, 32 * MIB)
    with caplog.at_level(logging.WARNING, "instructclf"):
        classifier.predict(MANY)
    assert "Memory ran out" not in caplog.text


def test_a_step_of_tuning_that_does_not_fit_is_taken_in_smaller_parts(
    machine, model_folder, caplog
):
    def tuned():
        return InstructionTunedClassifier(
            model_folder, n_shots=6, max_epochs=1, batch_size=6, random_state=0, calibration=None
        ).set_params(loss="lm+label", model_options=WHOLE, model_options__dtype="float32")

    gpu = machine.gpus[0]
    expected = tuned().fit(TEXTS, LABELS)
    limit(gpu, (gpu.n_peak - gpu.n_allocated) * 3 // 4)
    with caplog.at_level(logging.WARNING, "instructclf"):
        found = tuned().fit(TEXTS, LABELS)
    assert "Memory ran out: continuing with" in caplog.text
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, atol=1e-4)
