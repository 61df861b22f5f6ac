"""Gradients through a shared prefix are those of full prompts."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.scoring.strategies import Strategies
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from instructclf.engine.tuning.tuned_prefixes import (
    DifferentiablePrefix,
    DifferentiablePrefixAttention,
)
from instructclf.exceptions import ScoringError
from instructclf.prompts import TEMPLATES, Prompt, write_instruction
from tests.engine.scoring.test_windows import BELOW, BEYOND, FAMILIES
from tests.fixtures import make_model

WORDS = ["very positive", "very negative", "good", "good film"]
TEXTS = ["good", "a rather longer text, which goes on", "", "bad"]
WITHOUT_CAPS = [name for name in FAMILIES if name not in {"Gemma 2 2B", "gpt-oss"}]
"""Families whose attention scores are not capped and have no sinks."""
FEW = 6
"""Fewer tokens than a row has."""
KINDS = [DifferentiablePrefix, DifferentiablePrefixAttention]


@pytest.fixture
def encoder(tokenizer):
    prompt = Prompt(TEMPLATES["alpaca"], write_instruction(None, WORDS))
    return PromptEncoder(tokenizer, prompt, WORDS, None)


def make_adapter(model, targets="all-linear"):
    adapter = Adapter(shared_view(model), LoraSettings(4, 8, 0.0, targets), seed=0)
    with torch.no_grad():  # B is 0 at first, where A has no gradient
        for parameter in adapter.parameters:
            parameter.add_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
    return adapter


def gradients(adapter, encoded, layout, prefix, *, n_parts):
    """The gradient of the sum of all scores, some rows at a time."""
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


def assert_equal_gradients(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")], ids=["all", "q and v"])
@pytest.mark.parametrize("layout", [row_layout, tree_layout])
@pytest.mark.parametrize("n_parts", [1, 2, 4])
def test_gradients_are_those_of_full_prompts(kind, targets, layout, n_parts, encoder):
    adapter = make_adapter(make_model(dtype=torch.float64), targets)
    encoded = encoder.encode(TEXTS)
    expected = gradients(adapter, encoded, row_layout, None, n_parts=4)
    prefix = kind(adapter.model, encoder.prefix_ids)
    assert_equal_gradients(gradients(adapter, encoded, layout, prefix, n_parts=n_parts), expected)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma", "qwen3", "olmo"])
def test_gradients_of_other_architectures_are_those_of_full_prompts(architecture, encoder):
    adapter = make_adapter(make_model(architecture, dtype=torch.float64))
    encoded = encoder.encode(TEXTS)
    expected = gradients(adapter, encoded, row_layout, None, n_parts=4)
    prefix = DifferentiablePrefixAttention(adapter.model, encoder.prefix_ids)
    assert_equal_gradients(gradients(adapter, encoded, tree_layout, prefix, n_parts=2), expected)


@pytest.mark.parametrize("size", [BELOW, BEYOND, FEW], ids=["below", "beyond", "within a row"])
@pytest.mark.parametrize("name", WITHOUT_CAPS)
@pytest.mark.parametrize("layout", [row_layout, tree_layout])
def test_gradients_within_windows_are_those_of_full_prompts(name, size, layout, encoder):
    architecture, limit, changes = FAMILIES[name]
    model = make_model(architecture, dtype=torch.float64, **{limit: size, **changes})
    adapter = make_adapter(model, ("q_proj", "o_proj", "qkv_proj"))
    encoded = encoder.encode(TEXTS)
    expected = gradients(adapter, encoded, row_layout, None, n_parts=4)
    prefix = DifferentiablePrefixAttention(adapter.model, encoder.prefix_ids)
    assert_equal_gradients(gradients(adapter, encoded, layout, prefix, n_parts=2), expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", [row_layout, tree_layout])
def test_rows_that_begin_a_chunk_see_nothing_of_the_prefix(attention, layout, encoder):
    """A prefix of as many tokens as a chunk ends with it."""
    architecture, limit, changes = FAMILIES["Llama 4"]
    size = len(encoder.prefix_ids)
    changes = changes | {limit: size, "layer_types": ["chunked_attention"] * 4}
    model = make_model(architecture, dtype=torch.float64, **changes)
    model.set_attn_implementation(attention)
    adapter = make_adapter(model, ("q_proj", "o_proj"))
    encoded = encoder.encode(TEXTS)
    expected = gradients(adapter, encoded, row_layout, None, n_parts=4)
    prefix = DifferentiablePrefixAttention(adapter.model, encoder.prefix_ids)
    assert_equal_gradients(gradients(adapter, encoded, layout, prefix, n_parts=2), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_beyond_a_window_no_row_copies_the_prefix_unless_scores_are_capped(name, encoder):
    architecture, limit, changes = FAMILIES[name]
    model = shared_view(make_model(architecture, **{limit: BEYOND, **changes}))
    kinds = [DifferentiablePrefixAttention, DifferentiablePrefix]
    strategies = Strategies(model, n_prefix=len(encoder.prefix_ids), prefixes=kinds)
    (prompt,) = encoder.encode(["good"])
    assert strategies.n_limits_passed(prompt) == 1
    expected = DifferentiablePrefixAttention if name in WITHOUT_CAPS else DifferentiablePrefix
    assert strategies.choose(prompt).prefix is expected


def test_gradients_in_single_precision_are_close(encoder):
    adapter = make_adapter(make_model())
    encoded = encoder.encode(TEXTS)
    expected = gradients(adapter, encoded, row_layout, None, n_parts=4)
    prefix = DifferentiablePrefixAttention(adapter.model, encoder.prefix_ids)
    shared = gradients(adapter, encoded, tree_layout, prefix, n_parts=2)
    for found, right in zip(shared, expected, strict=True):
        assert (found - right).norm() <= 1e-4 * right.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_change_a_prefix(kind, encoder):
    adapter = make_adapter(make_model())
    prefix = kind(adapter.model, encoder.prefix_ids)
    encoded = encoder.encode(TEXTS)
    first = label_log_likelihoods(adapter.model, encoded, tree_layout, prefix)
    second = label_log_likelihoods(adapter.model, encoded, tree_layout, prefix)
    torch.testing.assert_close(second, first, rtol=0, atol=0)


def test_another_attention_function_is_an_error_and_is_kept(encoder):
    view = shared_view(make_model())
    view.set_attn_implementation("flex_attention")
    with pytest.raises(ScoringError, match=r"LlamaForCausalLM \(flex_attention\) cannot be"):
        DifferentiablePrefixAttention(view, encoder.prefix_ids)


def test_layers_that_no_prefix_reaches_are_an_error(encoder):
    """Falcon swallows the keyword, so its layers never see the prefix."""
    view = shared_view(make_model("falcon"))
    with pytest.raises(ScoringError, match=r"FalconForCausalLM"):
        DifferentiablePrefixAttention(view, encoder.prefix_ids)


def test_the_attention_of_prediction_is_not_extended(encoder):
    """A view serves one at a time, and tuning gives it back."""
    view = shared_view(make_model())
    DifferentiablePrefixAttention(view, encoder.prefix_ids)
    with pytest.raises(ScoringError, match="cannot be changed"):
        PrefixAttention(view, encoder.prefix_ids)
