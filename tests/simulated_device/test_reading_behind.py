"""While a device computes a batch, the host prepares the next one. Scores are read behind that."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from instructclf import ModelOptions, PromptClassifier
from instructclf.engine.scoring import reading
from instructclf.engine.tokens.encoding import PromptEncoder
from tests.fixtures import LABELS, TEXTS
from tests.simulated_device.machine import Event, Machine

NEW_TEXTS = [f"a thing of number {i}" for i in range(5)]
WORDS = {"positive": "really very positive", "negative": "rather very bad"}


def fit(model, n_tokens):
    options = ModelOptions(max_batch_tokens=n_tokens, dtype="float32")
    classifier = PromptClassifier(model, n_shots=4, calibration=None, random_state=0)
    classifier.set_params(model_options=options, verbalizer=WORDS).fit(TEXTS, LABELS)
    classifier.predict(NEW_TEXTS[:1])  # tries strategies, and computes the prefix
    return classifier


def order_of(machine, classifier):
    """Return when texts are encoded, batches queued and their scores read."""
    encode = PromptEncoder.encode

    def noting(encoder, texts):
        machine.events.append(Event("launch", "encoding", ""))
        return encode(encoder, texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptEncoder, "encode", noting)
        machine.events.clear()
        classifier.predict(NEW_TEXTS)
    names = {"encoding": "encode", "download": "queue", "synchronize": "read"}
    found = (names.get(event.operator, names.get(event.kind)) for event in machine.events)
    return " ".join(name for name in found if name is not None)


def test_a_batch_is_queued_before_the_scores_of_the_one_before_it_are_read(machine, model_folder):
    found = order_of(machine, fit(model_folder, n_tokens=1))
    assert found == "encode queue queue read queue read queue read queue read read"


def test_the_next_texts_are_encoded_while_the_device_computes(machine, model_folder, monkeypatch):
    monkeypatch.setattr(reading, "_CHUNK", 3)
    found = order_of(machine, fit(model_folder, n_tokens=1))
    assert found == "encode queue queue read queue read encode queue read queue read read"


def test_scores_are_those_that_are_read_at_once(machine, model_folder, monkeypatch):
    classifier = fit(model_folder, n_tokens=1)
    found = classifier.label_log_likelihood(NEW_TEXTS)
    assert np.isfinite(found).all()
    monkeypatch.setattr(reading, "_N_BEHIND", 0)
    assert order_of(machine, classifier) == "encode" + 5 * " queue read"
    np.testing.assert_array_equal(classifier.label_log_likelihood(NEW_TEXTS), found)


def test_scores_that_are_read_without_a_wait_are_not_there_yet(machine):
    values = torch.ones(3, device="cuda")
    copy, other = (values.to("cpu", non_blocking=True) for _ in range(2))
    is_copied = torch.cuda.Event()
    assert copy.isnan().all()
    is_copied.record(torch.cuda.current_stream(values.device))
    late = values.to("cpu", non_blocking=True)
    is_copied.synchronize()
    assert copy.tolist() == other.tolist() == [1, 1, 1]
    assert late.isnan().all()
    torch.cuda.synchronize()
    assert late.tolist() == [1, 1, 1]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "second", "last"])
def test_a_batch_that_fails_only_when_it_is_read_is_computed_again_in_halves(
    machine, model_folder, monkeypatch, caplog, which
):
    texts = [f"a thing of number {i}, and more of it" for i in range(24)]
    classifier = fit(model_folder, n_tokens=400)
    expected = classifier.label_log_likelihood(texts)
    wait, n_waits = Machine.wait, 0

    def failing(simulated, mark):
        nonlocal n_waits
        n_waits += 1
        if n_waits == which + 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        wait(simulated, mark)

    monkeypatch.setattr(Machine, "wait", failing)
    with caplog.at_level(logging.WARNING, "instructclf"):
        found = classifier.label_log_likelihood(texts)
    assert "Memory ran out: continuing with" in caplog.text
    assert n_waits > which + 2
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
