"""Prompting: the prompt shows the shots with their answers, and nothing is trained."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from instructclf.exceptions import (
    InvalidLabelsError,
    InvalidShotsError,
    PromptTooLongError,
    TruncationWarning,
)
from instructclf.sampling import BalancedSampler
from tests.fixtures import LABELS, TEXTS

DEFINITIONS = {"positive": "They like it.", "negative": "They do not."}


def test_the_prompt_shows_the_shots_in_their_order(make_prompting):
    classifier = make_prompting(template="alpaca_short").fit(TEXTS, LABELS)
    solved = "".join(
        f"### Input:\n{TEXTS[i]}\n\n### Response:\n{LABELS[i]}\n\n" for i in classifier.shots_
    )
    end = f"{solved}### Input:\nMeh.\n\n### Response:\n"
    assert classifier.get_prompt("Meh.").endswith(f"negative, positive.\n\n{end}")


def test_shots_answer_in_the_words_of_the_verbalizer(make_prompting):
    classifier = make_prompting(verbalizer={"positive": "yes", "negative": "no"})
    prompt = classifier.fit(TEXTS, LABELS).get_prompt("x")
    assert prompt.count("### Response:\nyes\n") == prompt.count("### Response:\nno\n") == 2


def test_more_shots_begin_with_the_same_shots(make_prompting):
    many = make_prompting(n_shots=8).fit(TEXTS, LABELS).shots_
    few = make_prompting(n_shots=4).fit(TEXTS, LABELS).shots_
    np.testing.assert_array_equal(many[:4], few)


def test_without_shots_the_prompt_is_the_instruction(make_prompting):
    classifier = make_prompting(n_shots=0).fit(TEXTS, LABELS)
    assert classifier.shots_.shape == (0,)
    assert classifier.get_prompt("Meh.").count("### Input:") == 1
    assert classifier.predict_proba(TEXTS).shape == (16, 2)


def test_definitions_alone_are_enough_without_shots(make_prompting):
    classifier = make_prompting(n_shots=0, label_definitions=DEFINITIONS).fit()
    assert classifier.classes_.tolist() == ["negative", "positive"]
    assert classifier.calibration_.n_rows == 0
    with_rows = make_prompting(n_shots=0, label_definitions=DEFINITIONS, calibration=None)
    np.testing.assert_array_equal(
        classifier.predict_proba(TEXTS), with_rows.fit(TEXTS, LABELS).predict_proba(TEXTS)
    )


def test_shots_without_rows_are_an_error(make_prompting):
    with pytest.raises(InvalidLabelsError, match="requires y to be passed"):
        make_prompting(n_shots=4, label_definitions=DEFINITIONS).fit()


def test_without_rows_and_definitions_fit_asks_for_definitions(make_prompting):
    with pytest.raises(InvalidLabelsError, match="can also come from label_definitions"):
        make_prompting(n_shots=0).fit()


def test_one_definition_alone_is_an_error(make_prompting):
    with pytest.raises(InvalidLabelsError, match="only one class"):
        make_prompting(n_shots=0, label_definitions={"a": "A."}).fit()


def test_one_row_of_each_class_is_enough(make_prompting):
    classifier = make_prompting(n_shots=2).fit(["good", "bad"], ["yes", "no"])
    assert classifier.calibration_.n_rows == 0
    assert classifier.predict(["good"]).shape == (1,)


def test_all_rows_can_be_shots(make_prompting):
    classifier = make_prompting(n_shots=None).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.shots_, np.arange(16))


def test_shots_too_long_for_the_context_are_cut_with_a_warning(make_prompting):
    texts = [f"{text} {'word ' * 300}" for text in TEXTS]
    classifier = make_prompting(model_options__max_length=1000, calibration=None)
    with pytest.warns(TruncationWarning, match="4 of 4 demonstrations were cut in their middle"):
        classifier.fit(texts, LABELS)
    assert classifier.get_prompt("Meh.").count(" [...] ") == 4
    assert np.isfinite(classifier.predict_proba(["Meh."])).all()


def test_shots_that_do_not_fit_at_all_are_an_error(make_prompting):
    texts = [f"{text} {'word ' * 300}" for text in TEXTS]
    with pytest.raises(PromptTooLongError, match="16 demonstrations do not fit .* Use fewer shots"):
        make_prompting(n_shots=16, model_options__max_length=500).fit(texts, LABELS)


def test_more_shots_than_different_rows_are_an_error(make_prompting):
    with pytest.raises(InvalidShotsError, match="n_shots=16 is more than the 8 different"):
        make_prompting(n_shots=16).fit(TEXTS[4:12], LABELS[4:12])


def test_the_model_is_left_unchanged(make_prompting, model, tokenizer):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    make_prompting().set_params(model=(model, tokenizer)).fit(TEXTS, LABELS).predict(TEXTS)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_prompting_does_not_import_peft(model_folder):
    script = f"""
import sys
from instructclf import PromptClassifier
classifier = PromptClassifier({model_folder!r}, n_shots=2)
classifier.fit(["good", "bad", "fine", "poor"], [1, 0, 1, 0]).predict(["good"])
assert "torch" in sys.modules
assert "peft" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("sampler", ["random", "kmeans", "facility_location", "vote_k"])
def test_shots_can_be_chosen_by_any_sampler(sampler, make_prompting):
    classifier = make_prompting(sampler=sampler, n_shots=6).fit(TEXTS, LABELS)
    assert len(set(classifier.shots_.tolist())) == 6
    shown = [text for text, _ in classifier.prompt_.demonstrations]
    assert shown == [TEXTS[i] for i in classifier.shots_]


def test_an_uncertainty_sampler_gets_the_probabilities_without_shots(make_prompting):
    given = {}

    class Sampler:
        needs_probabilities = True

        def select(self, X, y, n_shots, *, random_state=None, predict_proba=None):
            given["rows"] = predict_proba(TEXTS)
            return BalancedSampler().select(X, y, n_shots, random_state=random_state)

    make_prompting(sampler=Sampler(), calibration=None).fit(TEXTS, LABELS)
    without = make_prompting(n_shots=0, calibration=None).fit(TEXTS, LABELS)
    np.testing.assert_allclose(given["rows"], without.predict_proba(TEXTS), atol=1e-6)
