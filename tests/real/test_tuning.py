"""Adapters of real models start at the model's own scores, and learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.real.rows import DEFINITIONS, LABELS, TEXTS, UNSEEN

# One step does not teach labels, so that a second seed would be tried.
pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

ROWS = TEXTS[:4], LABELS[:4]
"""Few rows, since forward passes of transformers go over each of them."""
QUESTION = "The capital of France is", [" Paris", " Rome"]


def find_first_losses(real_model, classifier):
    """Return the mean loss of each kind over the rows, before any step, from forward passes."""
    texts, labels = ROWS
    classes = classifier.classes_.tolist()
    label, language = 0.0, 0.0
    for text, right in zip(texts, map(classes.index, labels), strict=True):
        tokens = real_model.score_tokens(classifier.get_prompt(text), classes, ends=True)
        label -= log_softmax([of_label[:-1].sum() for of_label in tokens])[right] / len(texts)
        language -= tokens[right].mean() / len(texts)
    return {"lm": language, "label": label, "lm+label": language + label}


def test_the_first_loss_of_each_kind_is_that_of_the_model_and_the_next_is_lower(real_model):
    expected = {}
    for loss in ("lm", "label", "lm+label"):
        options = {"loss": loss, "max_epochs": 2, "label_definitions": DEFINITIONS}
        classifier = real_model.tuning(**options).fit(*ROWS)
        expected = expected or find_first_losses(real_model, classifier)
        first, second = classifier.loss_curve_
        assert first == pytest.approx(expected[loss], abs=1e-4)
        assert second < first


def test_a_tuned_model_knows_the_labels_of_its_rows_better_than_its_base(real_model, tuned):
    before = log_softmax(real_model.score(tuned, TEXTS), axis=1)
    after = tuned.predict_log_proba(TEXTS)
    rows, right = range(len(TEXTS)), np.searchsorted(tuned.classes_, LABELS)
    assert after[rows, right].mean() > before[rows, right].mean() + 0.05
    assert np.mean(tuned.predict(TEXTS) == LABELS) >= np.mean(before.argmax(axis=1) == right)


def test_tuning_leaves_the_base_model_unchanged(real_model):
    before = real_model.score_prompt(*QUESTION)
    classifier = real_model.tuning(max_epochs=1).fit(TEXTS[:2], LABELS[:2])
    assert real_model.score_prompt(*QUESTION) == before
    adapted = classifier.label_log_likelihood(UNSEEN[:1])
    assert np.abs(adapted - real_model.score(classifier, UNSEEN[:1])).max() > 1e-3


def test_a_tuned_chat_model_scores_what_peft_scores(smollm2, tmp_path):
    classifier = smollm2.tuning(template="chat", max_epochs=1).fit(*ROWS)
    classifier.save(tmp_path / "saved")
    model = smollm2.with_adapter(tmp_path / "saved")
    expected = smollm2.score(classifier, UNSEEN, model)
    np.testing.assert_allclose(
        classifier.label_log_likelihood(UNSEEN), expected, rtol=2e-5, atol=1e-4
    )
