"""Fits and predictions are the same to the last bit, whatever state of torch a caller has set."""

from __future__ import annotations

import pickle
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from instructclf import InstructionTunedClassifier, LoRA, PromptClassifier, PromptFeatures, load
from instructclf.engine.models.registry import clear_base_models
from instructclf.engine.scoring import strategies
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

# Random weights learn little in the few steps that these tests take.
pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
        assert torch.get_default_device() == torch.device("meta")
    finally:
        torch.set_default_device(None)


@contextmanager
def without_gradients():
    torch.set_grad_enabled(False)
    try:
        yield
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients off": without_gradients,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "deterministic": deterministic,
    "another device": lambda: torch.device("meta"),
    "another default device": default_device,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.fixture(params=STATES.values(), ids=STATES)
def state(request):
    """Forget what other tests have loaded and tried, so that it is done in this state."""
    clear_base_models()
    strategies._found.clear()
    return request.param


def read(classifier):
    return [
        classifier.predict_proba(TEXTS),
        classifier.label_log_likelihood(TEXTS[:3]),
        np.array(classifier.show_tokens("a good thing")._repr_html_()),
    ]


def make_features(folder):
    return PromptFeatures(folder, labels=["bad", "good"])


@pytest.fixture(scope="module")
def expected(model_folder):
    """What estimators give without any such state."""
    prompted = PromptClassifier(model_folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    tuned = make_tuned(model_folder).fit(TEXTS, LABELS)
    features = make_features(model_folder).fit_transform(TEXTS)
    return {"prompting": read(prompted), "tuning": read(tuned), "features": features}


def make_tuned(model):
    return InstructionTunedClassifier(
        model,
        n_shots=4,
        random_state=0,
        learning_rate=0.01,
        max_epochs=3,
        batch_size=2,
        adapter=LoRA(rank=4, dropout=0.3),
    )


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_prompting_in_a_state_and_after_it(state, expected, model_folder):
    with state():
        classifier = PromptClassifier(model_folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
        assert_same(read(classifier), expected["prompting"])
        again = pickle.loads(pickle.dumps(classifier))
    assert_same(read(classifier), expected["prompting"])
    assert_same(read(again), expected["prompting"])


def test_tuning_saving_and_loading_in_a_state_and_after_it(state, expected, model_folder, tmp_path):
    with state():
        classifier = make_tuned(model_folder).fit(TEXTS, LABELS)
        assert_same(read(classifier), expected["tuning"])
        classifier.save(tmp_path / "saved")
        loaded = load(tmp_path / "saved")
        assert_same(read(loaded), expected["tuning"])
        classifier.export(tmp_path / "exported")
    for one in (classifier, loaded, load(tmp_path / "saved")):
        assert_same(read(one), expected["tuning"])
    exported = PromptClassifier(str(tmp_path / "exported"), n_shots=0).fit(TEXTS, LABELS)
    found = exported.label_log_likelihood(TEXTS[:3])
    np.testing.assert_allclose(found, expected["tuning"][1], rtol=0, atol=1e-5)


def test_features_in_a_state_and_after_it(state, expected, model_folder):
    with state():
        features = make_features(model_folder).fit(TEXTS)
        assert_same(features.transform(TEXTS), expected["features"])
    assert_same(features.transform(TEXTS), expected["features"])


def test_a_state_that_begins_after_the_fit(state, expected, model_folder):
    prompted = PromptClassifier(model_folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    tuned = make_tuned(model_folder).fit(TEXTS, LABELS)
    features = make_features(model_folder).fit(TEXTS)
    with state():
        assert_same(read(prompted), expected["prompting"])
        assert_same(read(tuned), expected["tuning"])
        assert_same(features.transform(TEXTS), expected["features"])


def test_models_that_were_loaded_in_inference_mode_are_scored_and_tuned(expected):
    with torch.inference_mode():
        pair = make_model(), make_tokenizer()
    prompted = PromptClassifier(pair, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    assert_same(read(prompted), expected["prompting"])
    assert_same(read(make_tuned(pair).fit(TEXTS, LABELS)), expected["tuning"])
