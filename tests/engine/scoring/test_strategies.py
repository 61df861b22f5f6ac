"""A shortcut is taken only where it gives the scores of plain full prompts."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import LlamaForCausalLM

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.scoring.strategies import FULL_PROMPTS
from instructclf.exceptions import ScoringError
from tests.engine.scoring.test_label_scoring import (
    LABEL_SETS,
    make_encoder,
    score_naively,
    strategy_of,
)
from tests.fixtures import make_model

LIMIT = 240
"""Tokens at which a model changes: more than a probe has, fewer than some prompts have."""
LENGTHS = {
    "below the limit": ["good", "x"],
    "beyond it with the prefix": ["good", "film " * 30, "x"],
    "beyond it alone": ["good", "bad " * 120, "x", "film " * 30],
}
TEXTS = LENGTHS["beyond it alone"]


class IgnoresMasks(LlamaForCausalLM):
    """Swallows a mask without a word, as some models do with what they do not know."""

    def forward(self, input_ids=None, past_key_values=None, use_cache=None, **kwargs):
        return super().forward(
            input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache
        )


class IgnoresCaches(LlamaForCausalLM):
    """Swallows keys and values of past tokens without a word."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=True)


class RefusesMasks(LlamaForCausalLM):
    """Takes no mask of four dimensions."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        if attention_mask is not None and attention_mask.dim() == 4:
            raise IndexError
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)


def score(model, tokenizer, words, texts=TEXTS):
    encoder = make_encoder(tokenizer, words, n_shots=3)
    scorer = LocalLabelScorer(shared_view(model), encoder)
    return scorer, scorer.score(texts), score_naively(model, tokenizer, encoder, texts)


@pytest.mark.parametrize(
    ("words", "layout"), [("single tokens", row_layout), ("shared beginnings", tree_layout)]
)
def test_an_ordinary_model_takes_the_fastest(words, layout, model, tokenizer):
    scorer, _, _ = score(model, tokenizer, LABEL_SETS[words], ["x"])
    assert strategy_of(scorer).prefix is PrefixAttention
    assert strategy_of(scorer).layout is layout


def test_a_model_without_fused_attention_shares_its_own_cache(tokenizer):
    model = make_model(attn_implementation="eager")
    scorer, scores, expected = score(model, tokenizer, LABEL_SETS["shared beginnings"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert strategy_of(scorer).prefix is PrefixCache


@pytest.mark.parametrize(
    ("model_class", "shares_prefix", "layout"),
    [
        (IgnoresMasks, True, row_layout),
        (IgnoresCaches, False, row_layout),
        (RefusesMasks, True, row_layout),
    ],
)
def test_a_model_that_swallows_what_it_does_not_know_gets_right_scores(
    model_class, shares_prefix, layout, tokenizer
):
    model = model_class(make_model().config).eval()
    model.load_state_dict(make_model().state_dict())
    scorer, scores, expected = score(model, tokenizer, LABEL_SETS["shared beginnings"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert (strategy_of(scorer).prefix is not None) is shares_prefix
    assert strategy_of(scorer).layout is layout


def test_plain_prompts_are_the_last_resort(tokenizer):
    model = make_model("mamba", state_size=4)
    texts = LENGTHS["below the limit"]
    scorer, scores, expected = score(model, tokenizer, LABEL_SETS["shared beginnings"], texts)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert strategy_of(scorer) is FULL_PROMPTS


def test_a_model_whose_tokens_see_what_follows_is_an_error(tokenizer):
    model = make_model("bert")
    with pytest.raises(ScoringError, match="BertLMHeadModel change by .* no causal language model"):
        score(model, tokenizer, LABEL_SETS["single tokens"])


LONGROPE = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
WINDOWS = {
    "mistral": {"sliding_window": LIMIT},
    "gemma2": {"sliding_window": LIMIT, "head_dim": 8},
    "gemma3_text": {"sliding_window": LIMIT, "head_dim": 8},
}
# Dynamic angles also change with the length, and no prompt gets there: what they are made for is
# the context, which bounds ``max_length``.
POSITIONS = {"phi3": {"rope_scaling": LONGROPE, "original_max_position_embeddings": LIMIT}}
beyond = pytest.mark.parametrize("length", [name for name in LENGTHS if "beyond" in name])


@pytest.mark.parametrize("words", LABEL_SETS)
@pytest.mark.parametrize("architecture", WINDOWS | POSITIONS)
def test_texts_below_a_limit_get_right_scores(architecture, words, tokenizer):
    model = make_model(architecture, **(WINDOWS | POSITIONS)[architecture])
    _, scores, expected = score(model, tokenizer, LABEL_SETS[words], LENGTHS["below the limit"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@beyond
@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (architecture, words)
        for architecture in WINDOWS
        for words in LABEL_SETS
        if (architecture, words) != ("gemma2", "single tokens")  # these are right
    ],
)
def test_texts_beyond_a_sliding_window_get_right_scores(architecture, words, length, tokenizer):
    model = make_model(architecture, **WINDOWS[architecture])
    _, scores, expected = score(model, tokenizer, LABEL_SETS[words], LENGTHS[length])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@beyond
@pytest.mark.parametrize("words", LABEL_SETS)
@pytest.mark.parametrize("architecture", POSITIONS)
def test_texts_beyond_the_length_at_which_positions_change_get_right_scores(
    architecture, words, length, tokenizer
):
    model = make_model(architecture, **POSITIONS[architecture])
    _, scores, expected = score(model, tokenizer, LABEL_SETS[words], LENGTHS[length])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
