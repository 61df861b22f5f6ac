"""Predictions on the simulated device are those of the CPU, whatever the model and the strategy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask

from instructclf import PromptClassifier
from instructclf.engine.scoring import strategies
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.exceptions import ScoringError
from tests.engine.scoring import test_attention
from tests.families import make_family
from tests.fixtures import ARCHITECTURES, LABELS, TEXTS, make_model, make_tokenizer
from tests.gpu.devices import TOLERANCES
from tests.simulated_device.simulation import fresh_machine, simulated_gpus

NEW_TEXTS = ["good", "bad thing, " * 12, "", *(f"nothing but number {i}" for i in range(5))]
WORDS = {"positive": "really very positive", "negative": "rather very bad"}
"""Labels of several tokens, so that the trie has branches."""


def fit(model, **changes):
    classifier = PromptClassifier(model, n_shots=4, random_state=0, verbalizer=WORDS)
    return classifier.set_params(**changes).fit(TEXTS, LABELS)


def read(architecture, device="cpu", dtype="float32"):
    """Return scores, and the strategies that were found for them."""
    strategies._found.clear()
    model = make_model(architecture).to(device=device, dtype=getattr(torch, dtype))
    scores = fit((model, make_tokenizer())).label_log_likelihood(NEW_TEXTS)
    return scores, set(strategies._found.values())


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "bloom", "gemma3_text"])
def test_scores_and_shortcuts_are_those_of_the_cpu(machine, architecture):
    scores, found = read(architecture, "cuda")
    expected, known = read(architecture)
    np.testing.assert_allclose(scores, expected, atol=TOLERANCES["float32"])
    assert found == known


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
def test_scores_in_half_precision_are_near_those_of_the_cpu(machine, architecture, dtype):
    scores, _ = read(architecture, "cuda", dtype)
    np.testing.assert_allclose(scores, read(architecture)[0], atol=TOLERANCES[dtype])


def found_prefixes():
    """Return the ways in which models have shared prefixes so far."""
    return {strategy.prefix for strategy in strategies._found.values()}


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)], ids=["Turing", "Hopper"])
@pytest.mark.parametrize("width", [8, 12, 100, 264])
@pytest.mark.parametrize("dtype", test_attention.TOLERANCES, ids=str)
def test_attention_and_normaliser_are_those_of_a_softmax_written_out(dtype, width, capability):
    with simulated_gpus(capability=capability):
        test_attention.check_all_kinds(dtype, "cuda", width)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("width", [8, 12, 264])
def test_heads_of_any_width_share_a_prefix_without_copies(machine, width, dtype):
    model = make_model("qwen3", head_dim=width).to(device="cuda", dtype=getattr(torch, dtype))
    fit((model, make_tokenizer())).label_log_likelihood(NEW_TEXTS)
    assert found_prefixes() == {PrefixAttention}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)], ids=["Turing", "Hopper"])
def test_devices_of_any_age_share_a_prefix_without_copies(dtype, capability):
    with fresh_machine(capability=capability):
        model = make_model().to(device="cuda", dtype=getattr(torch, dtype))
        fit((model, make_tokenizer())).label_log_likelihood(NEW_TEXTS)
        assert found_prefixes() == {PrefixAttention}


def test_a_model_that_cannot_take_token_ids_alone_leaves_the_device_working(machine):
    # Its positions are buckets of an encoder's input, and indices beyond them.
    model = make_family("prophetnet").to("cuda")
    with pytest.raises(ScoringError, match="cannot score labels.* index is out of range"):
        fit((model, make_tokenizer()))


def flash_attention(module, query, key, value, attention_mask, **options):
    """Take masks as flash attention does: they say which tokens of each row are no padding."""
    if attention_mask is not None:
        real = attention_mask.flatten().nonzero()[:, 0]
        query.transpose(1, 2).flatten(0, 1).index_select(0, real)
    n_queries, n_keys = query.shape[2], key.shape[2]
    causal = query.new_ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    return sdpa_attention_forward(module, query, key, value, causal, **options)


def test_flash_attention_of_transformers_gets_no_mask_that_it_cannot_read(machine):
    AttentionInterface.register("flash_attention_simulated", flash_attention)
    AttentionMaskInterface.register("flash_attention_simulated", flash_attention_mask)
    model = make_model().to("cuda")
    model.config._attn_implementation = "flash_attention_simulated"
    scores = fit((model, make_tokenizer())).label_log_likelihood(NEW_TEXTS)
    assert found_prefixes() == {PrefixCache}
    np.testing.assert_allclose(scores, read("llama")[0], atol=1e-3)
