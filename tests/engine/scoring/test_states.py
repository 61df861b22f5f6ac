"""The last hidden states equal those of transformers, one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.states import NO_LABELS, StateReader
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import ScoringError, TruncationWarning
from instructclf.prompts import TEMPLATES, Prompt, PromptTemplate, write_instruction
from tests.fixtures import ARCHITECTURES, make_model

TEXTS = ["I like it", "", "bad", "a much longer text that says nothing at all, " * 3, "bad"]
LABELS = ("negative", "positive", "very positive")


def make_reader(
    model, tokenizer, words=LABELS, *, template=TEMPLATES["alpaca"], max_length=None, **options
):
    prompt = Prompt(template, write_instruction(None, list(words)))
    encoder = PromptEncoder(tokenizer, prompt, words, max_length)
    return StateReader(shared_view(model), encoder, **options)


def states_one_by_one(model, reader, texts):
    """Send each prompt through the model alone, and take the state of its last token."""
    with torch.inference_mode():
        return np.stack(
            [
                model(torch.tensor([prompt.ids]), output_hidden_states=True)
                .hidden_states[-1][0, -1]
                .numpy()
                for prompt in reader.encoder.encode(texts)
            ]
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_equal_those_of_transformers(architecture, tokenizer):
    model = make_model(architecture, dtype=torch.float64)
    reader = make_reader(model, tokenizer)
    states = reader.read(TEXTS)
    assert states.shape == (5, 32)
    assert states.dtype == np.float64
    np.testing.assert_allclose(states, states_one_by_one(model, reader, TEXTS), rtol=0, atol=1e-9)


def test_a_label_that_changes_the_prompts_last_token_is_read_before_that_token(model, tokenizer):
    """Where a token spans the join, the label begins with it, and so the prompt ends before it."""
    template = PromptTemplate("{instruction}\nText: {input}\nVerdict: {response}")
    reader = make_reader(model, tokenizer, ("negative", "positive"), template=template)
    (encoded,) = reader.encoder.encode(["bad"])
    alone = tokenizer(reader.encoder.prompt.render("bad")).input_ids
    assert encoded.ids == alone[:-1]
    with torch.inference_mode():
        hidden = model(torch.tensor([alone]), output_hidden_states=True).hidden_states[-1][0]
    np.testing.assert_allclose(reader.read(["bad"])[0], hidden[-2].numpy(), rtol=0, atol=1e-5)


def test_without_labels_the_whole_prompt_is_read(model, tokenizer):
    reader = make_reader(model, tokenizer, NO_LABELS)
    for encoded, text in zip(reader.encoder.encode(TEXTS), TEXTS, strict=True):
        assert encoded.ids == tokenizer(reader.encoder.prompt.render(text)).input_ids
    expected = states_one_by_one(model, reader, TEXTS)
    np.testing.assert_allclose(reader.read(TEXTS), expected, rtol=0, atol=1e-5)


def test_states_of_models_in_single_precision_are_single_precision(model, tokenizer):
    assert make_reader(model, tokenizer).read(TEXTS).dtype == np.float32


def test_states_do_not_depend_on_batches_order_or_neighbours(tokenizer):
    model = make_model(dtype=torch.float64)
    expected = make_reader(model, tokenizer).read(TEXTS)
    one_by_one = make_reader(model, tokenizer, max_batch_tokens=1)
    np.testing.assert_allclose(one_by_one.read(TEXTS[::-1])[::-1], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one_by_one.read(TEXTS[2:3])[0], expected[2], rtol=0, atol=1e-9)


def test_equal_texts_have_equal_states(model, tokenizer):
    states = make_reader(model, tokenizer).read(TEXTS)
    np.testing.assert_array_equal(states[2], states[4])


def test_the_prefix_is_computed_once_and_shared(model, tokenizer):
    reader = make_reader(model, tokenizer)
    reader.read(TEXTS)
    (prefix,) = reader._shared._prefixes.values()
    assert prefix.length == len(reader.encoder.prefix_ids) > 20


def test_long_texts_are_cut_with_a_warning(model, tokenizer):
    reader = make_reader(model, tokenizer, max_length=160)
    with pytest.warns(TruncationWarning, match="1 text is longer than max_length=160"):
        assert reader.read(["good", "very " * 400]).shape == (2, 32)


def test_numbers_that_are_not_finite_are_an_error(tokenizer):
    broken = make_model()
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("inf"))
    with pytest.raises(ScoringError, match="not finite for the text 'good'.*dtype='float32'"):
        make_reader(broken, tokenizer).read(["good"])


def test_a_model_that_does_not_call_its_output_layer_is_an_error(model, tokenizer):
    reader = make_reader(model, tokenizer)
    other = make_model()
    reader.model.forward = other.forward
    # The error comes from trying strategies or, if the architecture is known, from reading states.
    with pytest.raises(ScoringError, match="cannot be scored here|does not let its layers see"):
        reader.read(["good"])
