"""A shared prefix does not change scores."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import ScoringError
from instructclf.prompts import TEMPLATES, Prompt, write_instruction
from tests.fixtures import make_model

WORDS = ["very positive", "very negative", "good", "good film"]
TEXTS = ["good", "a rather longer text, which goes on", "", "bad"]


@pytest.fixture
def encoder(tokenizer):
    prompt = Prompt(TEMPLATES["alpaca"], write_instruction(None, WORDS))
    return PromptEncoder(tokenizer, prompt, WORDS, None)


@pytest.mark.parametrize("kind", [PrefixCache, PrefixAttention])
@pytest.mark.parametrize("layout", [row_layout, tree_layout])
def test_rows_leave_a_prefix_as_it_is(kind, layout, model, encoder):
    encoded = encoder.encode(TEXTS)
    view = shared_view(model)
    with torch.inference_mode():
        prefix = kind(view, encoder.prefix_ids)
        first = label_log_likelihoods(view, encoded, layout, prefix)
        second = label_log_likelihoods(view, encoded, layout, prefix)
    torch.testing.assert_close(second, first, rtol=0, atol=0)


def test_a_recurrent_state_cannot_be_shared(encoder):
    model = make_model("mamba", state_size=4)
    with pytest.raises(ScoringError, match="A prefix of MambaForCausalLM cannot be shared"):
        PrefixCache(shared_view(model), encoder.prefix_ids)


def test_a_layer_that_forgets_cannot_share_by_attention(encoder):
    model = make_model("mistral", sliding_window=16)
    with pytest.raises(ScoringError, match="keeps only the last tokens of a prefix"):
        PrefixAttention(shared_view(model), encoder.prefix_ids)


def test_attention_that_is_not_the_expected_one_is_left_alone(encoder):
    view = shared_view(make_model())
    view.set_attn_implementation("eager")
    with pytest.raises(ScoringError, match=r"LlamaForCausalLM \(eager\) cannot be changed"):
        PrefixAttention(view, encoder.prefix_ids)


def test_extended_attention_reaches_neither_the_base_nor_another_view(model, encoder):
    view, other = shared_view(model), shared_view(model)
    PrefixAttention(view, encoder.prefix_ids)
    assert view.config._attn_implementation == "instructclf"
    assert model.config._attn_implementation == other.config._attn_implementation == "sdpa"
