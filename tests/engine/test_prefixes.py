"""A shared prefix changes neither scores nor gradients."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.adapters import Adapter, LoraSettings
from instructclf.engine.encoding import PromptEncoder
from instructclf.engine.forward import label_log_likelihoods
from instructclf.engine.layouts import row_layout, tree_layout
from instructclf.engine.prefixes import DifferentiablePrefix, PrefixAttention, PrefixCache
from instructclf.engine.views import shared_view
from instructclf.exceptions import ScoringError
from instructclf.prompts import TEMPLATES, Prompt, write_instruction
from tests.fixtures import make_model

WORDS = ["very positive", "very negative", "good", "good film"]
TEXTS = ["good", "a rather longer text, which goes on", "", "bad"]


@pytest.fixture
def encoder(tokenizer):
    prompt = Prompt(TEMPLATES["alpaca"], write_instruction(None, WORDS))
    return PromptEncoder(tokenizer, prompt, WORDS, None)


def make_adapter(model, targets):
    adapter = Adapter(shared_view(model), LoraSettings(4, 8, 0.0, targets), seed=0)
    with torch.no_grad():  # B is 0 at first, where A has no gradient
        for parameter in adapter.parameters:
            parameter.add_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
    return adapter


def gradients(adapter, encoded, layout, prefix_ids, *, n_parts):
    """The gradient of the sum of all scores, some rows at a time."""
    prefix = DifferentiablePrefix(adapter.model, prefix_ids) if prefix_ids else None
    size = len(encoded) // n_parts
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        label_log_likelihoods(adapter.model, part, layout, prefix).sum().backward()
    if prefix is not None:
        prefix.backward()
    found = [parameter.grad.clone() for parameter in adapter.parameters]
    for parameter in adapter.parameters:
        parameter.grad = None
    return found


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")], ids=["all", "q and v"])
@pytest.mark.parametrize("layout", [row_layout, tree_layout])
@pytest.mark.parametrize("n_parts", [1, 2, 4])
def test_gradients_through_a_shared_prefix_are_those_of_full_prompts(
    targets, layout, n_parts, encoder
):
    adapter = make_adapter(make_model(dtype=torch.float64), targets)
    encoded = encoder.encode(TEXTS)
    plain = gradients(adapter, encoded, row_layout, [], n_parts=1)
    shared = gradients(adapter, encoded, layout, encoder.prefix_ids, n_parts=n_parts)
    for expected, found in zip(plain, shared, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


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
