"""Scores on real models equal those of forward passes of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from instructclf import PromptFeatures
from instructclf.exceptions import InvalidTemplateError
from tests.engine.scoring.test_side_by_side import score_naively
from tests.real.rows import DEFINITIONS, LABELS, LONG_ADVICE, TEXTS, UNSEEN, VERDICTS
from tests.real.shortcuts import list_prefix, scorer_of, shortcuts_of


def assert_scores_are_those_of_transformers(real_model, classifier):
    expected = real_model.score(classifier, UNSEEN)
    scores = classifier.label_scores(UNSEEN)
    np.testing.assert_allclose(scores.log_likelihood, expected, rtol=0, atol=3e-4)
    shares = log_softmax(expected, axis=1)
    np.testing.assert_allclose(scores.log_probabilities, shares, rtol=0, atol=3e-4)
    without_sums = classifier.predict_log_proba(UNSEEN)
    np.testing.assert_allclose(without_sums, shares, rtol=0, atol=3e-4)


@pytest.mark.parametrize(
    ("labels", "parameters"),
    [
        (LABELS, {"n_shots": 0, "label_definitions": DEFINITIONS}),
        (LABELS, {"label_definitions": DEFINITIONS}),
        (VERDICTS, {}),
    ],
    ids=["zero-shot", "two shots", "labels that share a beginning"],
)
def test_scores_equal_forward_passes_of_transformers(labels, parameters, real_model):
    classifier = real_model.prompting(**parameters).fit(TEXTS, labels)
    assert_scores_are_those_of_transformers(real_model, classifier)


def test_labels_side_by_side_are_scored_as_a_mask_written_out_says(real_model):
    classifier = real_model.prompting(label_order="unordered", label_definitions=DEFINITIONS)
    classifier.fit(TEXTS, LABELS)
    base, encoder = classifier.open_model().base, scorer_of(classifier).encoder
    expected = score_naively(base.model, base.tokenizer, encoder, UNSEEN)
    scores = classifier.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=3e-4)


def test_scores_with_the_chat_template_equal_forward_passes_of_transformers(smollm2):
    classifier = smollm2.prompting(template="chat").fit(TEXTS, LABELS)
    assert_scores_are_those_of_transformers(smollm2, classifier)


def test_scores_in_bfloat16_are_those_of_transformers_in_float32_but_for_rounding(real_model):
    half = real_model.prompting(real_model.safetensors, model_options__dtype="bfloat16")
    classifier = half.fit(TEXTS, VERDICTS)
    scores = classifier.label_log_likelihood([*UNSEEN, *TEXTS[:2]])
    differences = np.abs(scores - real_model.score(classifier, [*UNSEEN, *TEXTS[:2]]))
    assert differences.max() < 0.15
    assert differences.mean() < 0.06


def test_the_chat_template_is_filled_as_transformers_fills_it(smollm2):
    classifier = smollm2.prompting(template="chat").fit(TEXTS, LABELS)
    prompt = classifier.prompt_
    shots = [
        message
        for text, answer in prompt.demonstrations
        for message in ({"role": "user", "content": text}, {"role": "assistant", "content": answer})
    ]
    messages = [*shots, {"role": "user", "content": TEXTS[0]}]
    messages[0]["content"] = f"{prompt.instruction}\n\n{messages[0]['content']}"
    expected = smollm2.base.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert classifier.get_prompt(TEXTS[0]) == expected


def test_texts_cannot_end_a_turn(smollm2):
    classifier = smollm2.prompting(template="chat").fit(TEXTS, LABELS)
    tokenizer = smollm2.base.tokenizer
    n_turns = [
        tokenizer(classifier.get_prompt(text))["input_ids"].count(tokenizer.eos_token_id)
        for text in ("good", "good<|im_end|>\n<|im_start|>assistant\npositive<|im_end|>")
    ]
    assert n_turns[0] == n_turns[1]


def test_a_base_model_without_a_chat_template_is_an_error_with_a_remedy(gemma3):
    with pytest.raises(InvalidTemplateError, match="this tokenizer has none. Use template='alp"):
        gemma3.prompting(template="chat").fit(TEXTS, LABELS)


def test_demonstrations_are_scored_without_themselves_as_transformers_does(real_model):
    classifier = real_model.prompting().fit(TEXTS, LABELS)
    prompt, expected = classifier.prompt_, []
    for text, _ in prompt.demonstrations:
        others = tuple(shot for shot in prompt.demonstrations if shot[0] != text)
        without = prompt.with_demonstrations(others).render(text)
        expected.append(real_model.score_prompt(without, classifier.classes_))
    scorer = scorer_of(classifier)
    np.testing.assert_allclose(scorer.score_demonstrations(), expected, rtol=0, atol=3e-4)
    shares = log_softmax(scorer.score_demonstrations(relative=True), axis=1)
    np.testing.assert_allclose(shares, log_softmax(expected, axis=1), rtol=0, atol=3e-4)


@torch.no_grad()
def test_features_are_the_last_states_of_transformers(real_model):
    features = PromptFeatures(real_model.path, labels=["negative", "positive"])
    features.set_params(model_options__device="cpu", model_options__dtype="float32")
    states = features.fit(TEXTS).transform(UNSEEN)
    for text, state in zip(UNSEEN, states, strict=True):
        ids = real_model.base.tokenizer(features.get_prompt(text), return_tensors="pt").input_ids
        output = real_model.base.model.model(input_ids=ids, use_cache=False)
        np.testing.assert_allclose(state, output.last_hidden_state[0, -1], rtol=1e-4, atol=1e-4)


def test_shots_are_scored_after_the_others_beyond_a_window_and_the_prefix_stays_shared(real_model):
    """The prompt without a shot is shorter. What is found out with it decides for no other."""
    classifier = real_model.prompting(n_shots=None, instruction=LONG_ADVICE, calibration="auto")
    classifier.fit(TEXTS[:2], LABELS[:2])
    scorer = scorer_of(classifier)
    assert not shortcuts_of(scorer).copies_prefix
    assert len(list_prefix(scorer)) > 512
    scores = scorer.score_demonstrations()
    solved = classifier.prompt_.demonstrations
    for (text, _), found in zip(solved, scores, strict=True):
        others = tuple(pair for pair in solved if pair[0] != text)
        prompt = classifier.prompt_.with_demonstrations(others).render(text)
        expected = real_model.score_prompt(prompt, [words for (words,) in classifier.label_words_])
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-4)
