"""Demonstrations are cut so that there is room for a text."""

from __future__ import annotations

import pytest

from instructclf.engine.tokens.demonstrations import fit_demonstrations
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import PromptTooLongError, TruncationWarning
from instructclf.prompts import TEMPLATES, Prompt, write_instruction

WORDS = ["negative", "positive"]


def make_prompt(*texts):
    shots = tuple((text, WORDS[i % 2]) for i, text in enumerate(texts))
    return Prompt(TEMPLATES["alpaca_short"], write_instruction(None, WORDS), shots)


def fit(tokenizer, prompt, max_length, texts=("a text of some words",)):
    return fit_demonstrations(tokenizer, prompt, WORDS, max_length=max_length, texts=texts)


def test_demonstrations_that_fit_stay_as_they_are(tokenizer):
    prompt = make_prompt("short", "short too")
    assert fit(tokenizer, prompt, 2048) is prompt


def test_without_a_limit_nothing_is_cut(tokenizer):
    prompt = make_prompt("long " * 5000, "short")
    assert fit(tokenizer, prompt, None) is prompt


def test_a_prompt_without_demonstrations_stays_as_it_is(tokenizer):
    prompt = make_prompt()
    assert fit(tokenizer, prompt, 100) is prompt


def test_long_demonstrations_are_cut_with_a_warning_and_short_ones_stay(tokenizer):
    prompt = make_prompt("long " * 300, "short", "also " * 300)
    match = r"2 of 3 demonstrations were cut .* to \d+ tokens each, to leave room .*=400"
    with pytest.warns(TruncationWarning, match=match) as seen:
        fitted = fit(tokenizer, prompt, 400)
    assert len(seen) == 1
    (first, _), (second, _), (third, _) = fitted.demonstrations
    assert second == "short"
    assert " [...] " in first
    assert " [...] " in third
    assert [words for _, words in fitted.demonstrations] == ["negative", "positive", "negative"]


@pytest.mark.parametrize("max_length", [300, 400, 701])
def test_room_is_left_for_a_text_as_long_as_those_given(max_length, tokenizer):
    text = "a text of some words"
    with pytest.warns(TruncationWarning, match="3 of 3 demonstrations were cut"):
        fitted = fit(tokenizer, make_prompt(*["long " * 300] * 3), max_length, [text])
    encoder = PromptEncoder(tokenizer, fitted, WORDS, max_length)
    short, long = encoder.encode([text, "long " * 300])
    assert not short.was_cut
    assert long.was_cut
    assert encoder.n_frame_tokens > 0.8 * max_length  # demonstrations use the room they may take


def test_at_most_a_quarter_of_the_context_is_kept_for_a_text(tokenizer):
    with pytest.warns(TruncationWarning, match="3 of 3 .* room for a text of 100 tokens"):
        fit(tokenizer, make_prompt(*["long " * 300] * 3), 400, ["long " * 300])


def test_demonstrations_that_would_be_cut_to_a_few_tokens_are_an_error(tokenizer):
    prompt = make_prompt(*["some words in a text " * 5] * 16)
    match = r"16 demonstrations do not fit .*max_length=380: each would be cut to \d tokens\. Use"
    with pytest.raises(PromptTooLongError, match=match):
        fit(tokenizer, prompt, 380)


def test_an_instruction_without_room_for_anything_is_an_error(tokenizer):
    with pytest.raises(PromptTooLongError, match=r"leaves \d of max_length=40 for a text"):
        fit(tokenizer, make_prompt("a", "b"), 40)
