"""Merged models score as their adapters did, and weights that others share stay as they are."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM

from instructclf.engine.models.merging import (
    has_adapters,
    merge_adapters,
    merge_earlier_adapters,
    run_probe,
)
from instructclf.engine.models.views import shared_view
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import make_model

pytestmark = [  # of PEFT, before anything is merged
    pytest.mark.filterwarnings("ignore:Model has .* and a tied layer is part:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*lora_bias=True:UserWarning"),
]

TASK = {"task_type": "CAUSAL_LM"}
EVERYWHERE = LoraConfig(**TASK, target_modules="all-linear")
OF_TIED_LAYERS = {
    "the output layer": LoraConfig(**TASK, target_modules=["q_proj", "lm_head"]),
    "the embeddings": LoraConfig(**TASK, target_modules=["q_proj", "embed_tokens"]),
    "both": LoraConfig(**TASK, target_modules=["lm_head", "embed_tokens"]),
    "the whole output layer": LoraConfig(
        **TASK, target_modules=["q_proj"], modules_to_save=["lm_head"]
    ),
    "all embeddings": LoraConfig(
        **TASK, target_modules=["q_proj"], modules_to_save=["embed_tokens"]
    ),
}
OF_OTHER_LAYERS = {
    "LoRA": EVERYWHERE,
    "DoRA": LoraConfig(**TASK, target_modules="all-linear", use_dora=True),
    "IA3": IA3Config(
        **TASK, target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "norms": LNTuningConfig(**TASK, target_modules=["input_layernorm"]),
    "some tokens": TrainableTokensConfig(
        **TASK, token_indices=[5, 7], target_modules=["embed_tokens"]
    ),
    "some tokens of both": LoraConfig(
        **TASK, target_modules=["q_proj"], trainable_token_indices=[5, 7]
    ),
}
IDS = torch.tensor([[5, 7, 11, 300, 599]])


def adapt(config, *, tied=True, architecture="llama"):
    """Return a model of PEFT whose adapter has an effect."""
    model = make_model(architecture, tie_word_embeddings=tied)
    return shake(get_peft_model(model, copy.deepcopy(config)))


def shake(wrapped):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in wrapped.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return wrapped.eval()


@torch.no_grad()
def score(model):
    return run_probe(model, IDS).log_softmax(-1)


def assert_merged(wrapped, merged):
    torch.testing.assert_close(score(merged), score(wrapped), rtol=0, atol=1e-4)
    assert not has_adapters(merged)


# Scores


@pytest.mark.parametrize("config", OF_TIED_LAYERS.values(), ids=OF_TIED_LAYERS)
@pytest.mark.parametrize("architecture", ["llama", "gemma"])
def test_adapters_of_tied_layers_untie_them(config, architecture, tmp_path):
    wrapped = adapt(config, architecture=architecture)
    untouched = score(make_model(architecture, tie_word_embeddings=True))
    assert (score(wrapped) - untouched).abs().max() > 0.01
    merged = merge_adapters(shared_view(wrapped), "it", "")
    assert_merged(wrapped, merged)
    assert not merged.config.tie_word_embeddings
    merged.save_pretrained(tmp_path / "merged")
    assert_merged(wrapped, AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))


@pytest.mark.parametrize("config", OF_OTHER_LAYERS.values(), ids=OF_OTHER_LAYERS)
@pytest.mark.parametrize("tied", [True, False])
def test_adapters_of_other_layers_are_merged(config, tied):
    wrapped = adapt(config, tied=tied)
    assert_merged(wrapped, merge_adapters(shared_view(wrapped), "it", ""))


@pytest.mark.parametrize(
    "config", [EVERYWHERE, OF_OTHER_LAYERS["some tokens of both"]], ids=["layers", "tokens of both"]
)
def test_layers_that_are_equal_after_merging_stay_tied(config):
    merged = merge_adapters(adapt(config), "it", "")
    assert merged.config.tie_word_embeddings
    assert merged.lm_head.weight is merged.model.embed_tokens.weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rounding_in_other_precisions_is_no_error(dtype):
    wrapped = adapt(OF_TIED_LAYERS["both"]).to(dtype)
    assert merge_adapters(wrapped, "it", "").dtype == dtype


def test_several_active_adapters_are_all_merged():
    wrapped = adapt(EVERYWHERE)
    wrapped.add_adapter("more", copy.deepcopy(OF_TIED_LAYERS["the output layer"]))
    wrapped.base_model.set_adapter(["default", "more"])
    shake(wrapped)
    assert_merged(wrapped, merge_adapters(shared_view(wrapped), "it", ""))


def test_an_adapter_that_transformers_has_loaded_is_merged_and_saved(tmp_path):
    wrapped = adapt(OF_TIED_LAYERS["the output layer"])
    wrapped.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    model = make_model(tie_word_embeddings=True)
    model.load_adapter(str(tmp_path / "adapter"))
    merged = merge_adapters(shared_view(model), "it", "")
    assert_merged(wrapped, merged)
    merged.save_pretrained(tmp_path / "merged")
    assert_merged(wrapped, AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))


# What stays


@pytest.mark.parametrize("config", OF_TIED_LAYERS.values(), ids=OF_TIED_LAYERS)
def test_the_model_that_a_view_shares_keeps_every_bit(config):
    wrapped = adapt(config)
    before = {name: weight.clone() for name, weight in wrapped.state_dict().items()}
    merge_adapters(shared_view(wrapped), "it", "")
    assert has_adapters(wrapped)
    for name, weight in wrapped.state_dict().items():
        assert torch.equal(weight, before[name])


def test_layers_without_an_adapter_are_still_shared():
    wrapped = adapt(LoraConfig(**TASK, target_modules=["q_proj"]))
    merged = merge_adapters(shared_view(wrapped), "it", "")
    layer, original = merged.model.layers[0], wrapped.base_model.model.model.layers[0]
    assert layer.mlp.up_proj.weight.data_ptr() == original.mlp.up_proj.weight.data_ptr()
    q_proj = original.self_attn.q_proj.base_layer
    assert layer.self_attn.q_proj.weight.data_ptr() != q_proj.weight.data_ptr()


def test_models_without_adapters_have_nothing_to_merge(model):
    assert not has_adapters(model)
    assert merge_earlier_adapters(model) is model


# Errors


def test_an_adapter_that_is_merged_wrongly_is_an_error_that_says_by_how_much():
    wrapped = adapt(EVERYWHERE)
    layer = wrapped.base_model.model.model.layers[0].self_attn.q_proj
    layer.get_delta_weight = lambda _: torch.ones_like(layer.base_layer.weight)
    match = (
        r"Merging the adapter 'a' into its .* differ by up to \d.* nats .* than rounding\. Do so"
    )
    with pytest.raises(ModelLoadingError, match=match):
        merge_adapters(wrapped, "the adapter 'a'", "Do so.")


def test_what_peft_cannot_merge_is_an_error_with_a_remedy():
    wrapped = adapt(LoraConfig(**TASK, target_modules=["q_proj"], lora_bias=True))
    with pytest.raises(
        ModelLoadingError, match=r"The adapter could not be merged\. PEFT .*\. Do so"
    ):
        merge_adapters(wrapped, "the adapter", "Do so.")


def test_adapters_outside_the_layers_cannot_be_merged_for_another_one():
    wrapped = get_peft_model(make_model(), PromptTuningConfig(**TASK, num_virtual_tokens=2))
    assert has_adapters(wrapped)
    with pytest.raises(ModelLoadingError, match="because it works outside the layers, as it must"):
        merge_earlier_adapters(wrapped)
