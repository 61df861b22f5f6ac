"""A shared prefix does not change scores."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.scoring.prefixes import PrefixCache, _check_keys_and_values
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


@pytest.mark.parametrize("kind", [PrefixCache, PrefixAttention])
def test_a_prefix_that_goes_in_by_chunks_is_the_same(kind, model, encoder, monkeypatch):
    whole = kind(shared_view(model), encoder.prefix_ids)
    monkeypatch.setattr("instructclf.engine.scoring.prefixes.CHUNK", 7)
    monkeypatch.setattr("instructclf.engine.scoring.attention.CHUNK", 7)
    in_chunks = kind(shared_view(model), encoder.prefix_ids)
    for expected, found in zip(layers_of(whole), layers_of(in_chunks), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def layers_of(prefix):
    if isinstance(prefix, PrefixCache):
        return prefix.keys_and_values()
    layers = prefix._layers.values()
    return [tuple(heads[:, :, : prefix.length] for heads in pair) for pair in layers]


def test_rows_of_a_cache_are_views_of_one_prefix(model, encoder):
    prefix = PrefixCache(shared_view(model), encoder.prefix_ids)
    layout = SimpleNamespace(input_ids=torch.ones(5, 3))
    rows = prefix.inputs(layout)["past_key_values"]
    for layer, (keys, values) in zip(rows.layers, prefix.keys_and_values(), strict=True):
        assert layer.keys.shape == (5, *keys.shape[1:])
        assert layer.keys.data_ptr() == keys.data_ptr()
        assert layer.values.data_ptr() == values.data_ptr()


@pytest.mark.parametrize("others", [[], [7, 8, 9]], ids=["a part", "a part and others"])
@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_only_attention_can_be_split(architecture, others, encoder):
    model = make_model(architecture, **({"sliding_window": 5} if architecture == "mistral" else {}))
    view, ids = shared_view(model), encoder.prefix_ids
    assert PrefixCache(view, ids).branch(view, 3, others) is None
    whole = PrefixAttention(view, ids)
    before = [heads.clone() for pair in layers_of(whole) for heads in pair]
    found = layers_of(branch := whole.branch(view, 9, others))
    expected = layers_of(PrefixAttention(view, [*ids[:9], *others]))
    assert (branch.length, whole.length) == (9 + len(others), len(ids))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    for heads, kept in zip((h for pair in layers_of(whole) for h in pair), before, strict=True):
        assert torch.equal(heads, kept)


def test_a_recurrent_state_cannot_be_shared(encoder):
    model = make_model("mamba", state_size=4)
    match = "A prefix of MambaForCausalLM cannot be shared: .* other tensors than keys and val"
    with pytest.raises(ScoringError, match=match):
        PrefixCache(shared_view(model), encoder.prefix_ids)


def test_layers_with_a_window_keep_all_of_a_prefix_for_its_parts(encoder):
    model = make_model("mistral", sliding_window=16)
    ids = encoder.prefix_ids
    assert len(ids) > 30
    prefix = PrefixAttention(shared_view(model), ids)
    assert [keys.shape[2] for keys, _ in layers_of(prefix)] == [len(ids)] * 2
    for keys, _ in PrefixCache(shared_view(model), ids).keys_and_values():
        assert keys.shape[2] < 16


def test_attention_that_is_not_the_expected_one_is_left_alone(encoder):
    view = shared_view(make_model())
    view.set_attn_implementation("flex_attention")
    with pytest.raises(ScoringError, match=r"LlamaForCausalLM \(flex_attention\) cannot be ch"):
        PrefixAttention(view, encoder.prefix_ids)


def test_extended_attention_reaches_neither_the_base_nor_another_view(model, encoder):
    view, other = shared_view(model), shared_view(model)
    PrefixAttention(view, encoder.prefix_ids)
    assert view.config._attn_implementation == "instructclf_sdpa"
    assert model.config._attn_implementation == other.config._attn_implementation == "sdpa"


class Cache:
    """A cache that holds these attributes, and one layer of keys and values."""

    def __init__(self, **attributes):
        self.layers = [SimpleNamespace(keys=torch.ones(1), values=torch.ones(1))]
        vars(self).update(attributes)


@pytest.mark.parametrize(
    "attributes",
    [{"state": torch.ones(1)}, {"states": [torch.ones(1)]}, {"states": {0: torch.ones(1)}}],
    ids=["a tensor", "a list", "a mapping"],
)
def test_tensors_of_a_cache_outside_its_layers_cannot_be_shared(attributes):
    with pytest.raises(ScoringError, match="Cache holds other tensors than keys and values"):
        _check_keys_and_values(object(), Cache(**attributes))


def test_numbers_and_private_tensors_of_a_cache_do_not_matter():
    _check_keys_and_values(object(), Cache(length=3, _seen=torch.ones(1), names=["a"]))
