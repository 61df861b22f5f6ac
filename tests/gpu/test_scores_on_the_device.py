"""Scores on the device are those of the CPU, in every data type and architecture."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from instructclf import (
    InstructionTunedClassifier,
    ModelOptions,
    PromptClassifier,
    TrainingOptions,
)
from instructclf.datasets import load_reviews
from instructclf.engine.scoring import reading
from tests.fixtures import ARCHITECTURES, LABELS, TEXTS, make_model, make_tokenizer
from tests.gpu.devices import DEVICE, ON_DEVICE, SHORT_RUNS, TOLERANCES

pytestmark = [*ON_DEVICE, SHORT_RUNS]

NEW_TEXTS = [
    "good",
    "bad thing, and then a longer story about how bad it was, which goes on and on " * 3,
    "",
    *(f"nothing but number {i}" for i in range(20)),
]
WORDS = {"positive": "very positive", "negative": "very bad"}
"""Labels that share a beginning, so that the trie has an inner node."""
ON_CPU = {"model_options__device": "cpu", "model_options__dtype": "float32"}
REVIEWS = load_reviews("test")
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCES))


def on_device(fitted, dtype):
    """Return the same fitted classifier with its base model loaded again on the device."""
    fitted.set_params(model_options__device=DEVICE, model_options__dtype=dtype)
    return pickle.loads(pickle.dumps(fitted))


@DTYPES
@pytest.mark.parametrize("verbalizer", [None, WORDS], ids=["one token", "a trie"])
def test_scores_agree_with_those_of_the_cpu(make_classifier, dtype, verbalizer):
    classifier = make_classifier(**ON_CPU, verbalizer=verbalizer)
    classifier.fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(NEW_TEXTS)
    scores = on_device(classifier, dtype).label_log_likelihood(NEW_TEXTS)
    np.testing.assert_allclose(scores, expected, atol=TOLERANCES[dtype])


@DTYPES
@pytest.mark.parametrize(
    "classifier",
    [
        PromptClassifier(n_shots=8, random_state=0),
        InstructionTunedClassifier(
            n_shots=8,
            max_epochs=2,
            training_options=TrainingOptions(target_loss=10.0),
            random_state=0,
        ),
    ],
    ids=["prompting", "tuning"],
)
def test_the_bundled_model_agrees_with_itself_on_the_cpu(classifier, dtype):
    classifier.set_params(**ON_CPU).fit(REVIEWS.texts[:64], REVIEWS.labels[:64])
    expected = classifier.label_log_likelihood(REVIEWS.texts[64:128])
    fitted = on_device(classifier, dtype)
    scores = fitted.label_log_likelihood(REVIEWS.texts[64:128])
    np.testing.assert_allclose(scores, expected, atol=TOLERANCES[dtype])
    if dtype == "float32":
        assert (scores.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_scores_that_are_read_behind_the_next_batch_are_those_read_at_once(
    make_classifier, monkeypatch
):
    classifier = make_classifier(**ON_CPU, model_options__max_batch_tokens=128)
    fitted = on_device(classifier.fit(TEXTS, LABELS), "float32")
    found = fitted.label_log_likelihood(NEW_TEXTS)
    monkeypatch.setattr(reading, "_N_BEHIND", 0)
    np.testing.assert_array_equal(fitted.label_log_likelihood(NEW_TEXTS), found)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_agrees_with_itself_on_the_cpu(architecture):
    tokenizer = make_tokenizer()
    scores = [
        PromptClassifier(
            (make_model(architecture).to(device), tokenizer),
            n_shots=4,
            verbalizer=WORDS,
            random_state=0,
        )
        .fit(TEXTS, LABELS)
        .label_log_likelihood(NEW_TEXTS)
        for device in ("cpu", DEVICE)
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=TOLERANCES["float32"])


@DTYPES
def test_scores_do_not_depend_on_the_batch(make_prompting, dtype):
    scores = [
        make_prompting(
            model_options=ModelOptions(device=DEVICE, dtype=dtype, max_batch_tokens=budget),
            verbalizer=WORDS,
        )
        .fit(TEXTS, LABELS)
        .label_log_likelihood(NEW_TEXTS)
        for budget in ("auto", 1)
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=TOLERANCES[dtype])


def test_a_model_goes_to_the_device_that_is_named(make_classifier):
    classifier = make_classifier(model_options__device=DEVICE).fit(TEXTS, LABELS)
    assert classifier.open_model().base.device.type == DEVICE
