"""Layers with windows and chunks share a prefix without copies, on both sides of their limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.windows import Window, layer_windows
from tests.engine.scoring.test_label_scoring import (
    LABEL_SETS,
    make_encoder,
    score_naively,
    strategy_of,
)
from tests.fixtures import make_model

SLIDING, FULL, CHUNKED = "sliding_attention", "full_attention", "chunked_attention"
BEYOND, BELOW = 24, 1000
"""Windows that prompts of these tests pass, or do not."""
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}

# What the configurations of these models say of attention, with narrower windows and fewer layers.
FAMILIES = {
    "Gemma 2 2B": ("gemma2", "sliding_window", {"layer_types": [SLIDING, FULL], "head_dim": 8}),
    "Gemma 3 270M": (
        "gemma3_text",
        "sliding_window",
        {"layer_types": [SLIDING] * 5 + [FULL], "num_hidden_layers": 6, "head_dim": 8},
    ),
    "Mistral 7B v0.1": ("mistral", "sliding_window", {}),
    "Phi-3 mini 4k": ("phi3", "sliding_window", {}),
    "Qwen2": ("qwen2", "sliding_window", {"use_sliding_window": True, "max_window_layers": 1}),
    "Qwen3": (
        "qwen3",
        "sliding_window",
        {"use_sliding_window": True, "max_window_layers": 1, "head_dim": 8},
    ),
    "gpt-oss": ("gpt_oss", "sliding_window", {"layer_types": [SLIDING, FULL], **EXPERTS}),
    "Llama 4": (
        "llama4_text",
        "attention_chunk_size",
        {
            "layer_types": [CHUNKED] * 3 + [FULL],
            "num_hidden_layers": 4,
            "intermediate_size_mlp": 48,
            **EXPERTS,
        },
    ),
}
WORDS = LABEL_SETS["shared beginnings"]
TEXTS = ["good", "film " * 40, "x"]


@pytest.mark.parametrize("size", [BELOW, BEYOND], ids=["below", "beyond"])
@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_those_of_full_prompts_and_no_row_copies_the_prefix(name, size, tokenizer):
    architecture, limit, changes = FAMILIES[name]
    model = make_model(architecture, **{limit: size, **changes})
    encoder = make_encoder(tokenizer, WORDS, n_shots=2)
    assert BEYOND < len(encoder.prefix_ids) < BELOW
    scorer = LocalLabelScorer(shared_view(model), encoder)
    expected = score_naively(model, tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scorer.score(TEXTS), expected, rtol=0, atol=2e-5)
    assert strategy_of(scorer).prefix is PrefixAttention


@pytest.mark.parametrize("name", FAMILIES)
def test_in_half_precision_the_same_shortcut_is_taken(name, tokenizer):
    architecture, limit, changes = FAMILIES[name]
    model = make_model(architecture, dtype=torch.bfloat16, **{limit: BEYOND, **changes})
    encoder = make_encoder(tokenizer, WORDS, n_shots=2)
    scorer = LocalLabelScorer(shared_view(model), encoder)
    assert strategy_of(scorer).prefix is PrefixAttention


def test_the_kinds_of_layers_decide_which_have_a_window():
    config = make_model("gemma2", layer_types=[SLIDING, FULL], sliding_window=7).config
    assert layer_windows(config) == [Window(7, is_chunked=False), None]


def test_without_kinds_all_layers_have_the_window():
    config = make_model("mistral", sliding_window=7).config
    assert getattr(config, "layer_types", None) is None
    assert layer_windows(config) == [Window(7, is_chunked=False)] * 2
    assert layer_windows(make_model("mistral", sliding_window=None).config) == [None] * 2


@pytest.mark.parametrize("position", [0, 6, 7, 20])
def test_a_window_begins_where_a_mask_says_so(position):
    sliding, chunked = Window(7, is_chunked=False), Window(7, is_chunked=True)
    others = range(position + 1)
    assert max(0, sliding.first_visible(position)) == min(j for j in others if j > position - 7)
    assert chunked.first_visible(position) == min(j for j in others if j // 7 == position // 7)
