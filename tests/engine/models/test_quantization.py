"""Base models in 4 bits: loaded, viewed, scored and tuned like any other."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from instructclf.engine.models.loading import load_base_model, wrap_loaded_model
from instructclf.engine.models.quantization import (
    check_quantization,
    compute_dtype,
    prevent_repacking,
)
from instructclf.engine.models.registry import clear_base_models, get_base_model
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.strategies import FULL_PROMPTS
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from instructclf.exceptions import MissingExtraError, ModelLoadingError
from tests.engine.scoring.test_label_scoring import (
    LABEL_SETS,
    TEXTS,
    make_encoder,
    score_naively,
    strategy_of,
)
from tests.fixtures import make_model, make_tokenizer

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
CPU = torch.device("cpu")
LORA = LoraSettings(rank=2, alpha=4, dropout=0.0, target_modules="all-linear")


@pytest.fixture(autouse=True)
def _no_models():
    yield
    clear_base_models()


@pytest.fixture
def bitsandbytes():
    return pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")


@pytest.fixture
def make_base(bitsandbytes, tmp_path):
    """Return what saves a random model and loads it in 4 bits."""

    def make(architecture="llama", dtype=torch.float32):
        make_model(architecture).save_pretrained(tmp_path)
        make_tokenizer().save_pretrained(tmp_path)
        return load_base_model(str(tmp_path), device=CPU, dtype=dtype, quantization="4bit")

    return make


@pytest.fixture
def base(make_base):
    return make_base()


def linear_layers(model, bitsandbytes):
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, bitsandbytes.nn.Linear4bit)
    }


def dequantised(model, bitsandbytes):
    """Return a model in float32 with the numbers that the 4-bit weights stand for."""
    unpacked = make_model(model.config.model_type, dtype=torch.float32)
    weights = dict(model.named_parameters())
    for name, layer in linear_layers(model, bitsandbytes).items():
        full = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        is_transposed = type(unpacked.get_submodule(name)).__name__ == "Conv1D"  # as in GPT-2
        weights[f"{name}.weight"] = full.T if is_transposed else full
    with torch.no_grad():
        for name, weight in unpacked.named_parameters():
            weight.copy_(weights[name])
    return unpacked


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits


def gradients(adapter):
    """Return the gradient of each adapter weight, all of them off their initial zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapter.parameters:
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
            weight.grad = None
    adapter.model(IDS).logits.float().log_softmax(-1)[0, -1, 7].backward()
    return [weight.grad for weight in adapter.parameters]


# Loading


def test_linear_layers_are_stored_in_4_bits_and_nothing_else(base, bitsandbytes):
    layers = linear_layers(base.model, bitsandbytes)
    assert len(layers) == 2 * 7
    assert {layer.weight.quant_type for layer in layers.values()} == {"nf4"}
    assert all(layer.weight.quant_state.nested for layer in layers.values())
    others = {
        name: weight.dtype
        for name, weight in base.model.named_parameters()
        if name.removesuffix(".weight") not in layers
    }
    assert "model.embed_tokens.weight" in others
    assert set(others.values()) == {torch.float32}
    assert not base.model.training
    assert not any(weight.requires_grad for weight in base.model.parameters())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_it_computes_with_the_dequantised_weights(architecture, make_base, bitsandbytes):
    model = make_base(architecture).model
    unpacked = dequantised(model, bitsandbytes)
    torch.testing.assert_close(logits(model), logits(unpacked), rtol=0, atol=1e-4)
    assert not torch.allclose(logits(model), logits(make_model(architecture)), atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_computes_in_the_requested_type(dtype, make_base, bitsandbytes):
    model = make_base(dtype=dtype).model
    assert logits(model).dtype == dtype
    assert compute_dtype(model) == dtype
    layers = linear_layers(model, bitsandbytes).values()
    assert {layer.compute_dtype for layer in layers} == {dtype}


def test_running_it_does_not_repack_weights(base):
    before = [weight.data.clone() for weight in base.model.parameters()]
    logits(base.model)
    logits(shared_view(base.model))
    for weight, old in zip(base.model.parameters(), before, strict=True):
        assert torch.equal(weight.data, old)


def test_a_model_saved_in_4_bits_loads_in_4_bits(base, tmp_path):
    base.model.save_pretrained(tmp_path / "quantised")
    base.tokenizer.save_pretrained(tmp_path / "quantised")
    again = load_base_model(str(tmp_path / "quantised"), device=CPU, dtype=torch.float32)
    torch.testing.assert_close(logits(again.model), logits(base.model), rtol=0, atol=1e-4)
    logits(again.model)
    assert_trains(again.model)


# Scores


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS.keys())
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_scores_equal_a_naive_forward_pass(architecture, words, make_base):
    base = make_base(architecture)
    encoder = make_encoder(base.tokenizer, words)
    scorer = LocalLabelScorer(shared_view(base.model), encoder)
    expected = score_naively(base.model, base.tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scorer.score(TEXTS), expected, rtol=0, atol=1e-4)
    assert strategy_of(scorer) != FULL_PROMPTS


# Views and adapters


def test_a_view_shares_weights_and_quantisation_states(base, bitsandbytes):
    view = shared_view(base.model)
    in_view, shared = (linear_layers(model, bitsandbytes) for model in (view, base.model))
    assert in_view.keys() == shared.keys()
    for name, layer in in_view.items():
        assert layer is not shared[name]
        assert layer.weight.data_ptr() == shared[name].weight.data_ptr()
        assert layer.weight.quant_state is shared[name].weight.quant_state
        assert layer.quant_state is shared[name].quant_state
    torch.testing.assert_close(logits(view), logits(base.model), rtol=0, atol=1e-5)


def assert_trains(model):
    adapter = Adapter(shared_view(model), LORA, seed=0)
    assert {weight.dtype for weight in adapter.parameters} == {torch.float32}
    assert len(adapter.parameters) == 2 * 2 * 7
    assert all(gradient.abs().sum() > 0 for gradient in gradients(adapter))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_in_full_precision_trains_on_it(dtype, make_base):
    assert_trains(make_base(dtype=dtype).model)


def test_gradients_are_those_over_the_dequantised_weights(base, bitsandbytes):
    """Also after the model has run: bitsandbytes repacks weights then, and cuts the gradient."""
    logits(base.model)
    logits(shared_view(base.model))
    adapter = Adapter(shared_view(base.model), LORA, seed=0)
    twin = Adapter(dequantised(base.model, bitsandbytes), LORA, seed=0)
    for gradient, expected in zip(gradients(adapter), gradients(twin), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def test_training_an_adapter_does_not_change_the_base_model(base, bitsandbytes):
    expected = logits(base.model)
    stored = [weight.data.clone() for weight in base.model.parameters()]
    adapter = Adapter(shared_view(base.model), LORA, seed=0)
    gradients(adapter)
    torch.optim.SGD(adapter.parameters, lr=1.0).step()
    assert not torch.equal(logits(adapter.model), expected)
    assert torch.equal(logits(base.model), expected)
    for weight, old in zip(base.model.parameters(), stored, strict=True):
        assert torch.equal(weight.data, old)
    assert len(linear_layers(base.model, bitsandbytes)) == 2 * 7


# Objects


def load_pair(base, tmp_path, **options):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", **options)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, quantization_config=config, device_map={"": CPU}
    )
    return model.eval(), base.tokenizer


def test_a_pair_in_4_bits_is_taken_and_trains(base, tmp_path):
    pair = load_pair(base, tmp_path)
    adopted = wrap_loaded_model(pair)
    assert adopted.model is pair[0]
    view = shared_view(adopted.model)
    assert torch.equal(logits(view), logits(view))
    assert_trains(adopted.model)


def test_a_pair_whose_weights_were_repacked_is_an_error(base, tmp_path, bitsandbytes):
    pair = load_pair(base, tmp_path)
    weight = next(iter(linear_layers(pair[0], bitsandbytes).values())).weight
    weight.quant_state.packing_format_for_cpu = True  # as on AVX512-BF16 processors
    match = r"repacked .* this LlamaForCausalLM .* Load the model again .*\(quantization='4bit'\)"
    with pytest.raises(ModelLoadingError, match=match):
        wrap_loaded_model(pair)


def test_a_view_of_a_pair_runs_without_repacking(base, tmp_path):
    pair = load_pair(base, tmp_path)
    logits(shared_view(pair[0]))
    wrap_loaded_model(pair)


def test_a_pair_cannot_be_quantised_afterwards(model, tokenizer):
    match = r"quantization='4bit'\) is for models .* by name.*a pair of objects.*BitsAndBytesConfig"
    with pytest.raises(ModelLoadingError, match=match):
        get_base_model((model, tokenizer), quantization="4bit")


def test_the_least_precise_type_of_all_layers_counts(base, tmp_path):
    pair = load_pair(base, tmp_path, bnb_4bit_compute_dtype=torch.bfloat16)
    assert pair[0].get_input_embeddings().weight.dtype == torch.float32
    assert compute_dtype(pair[0]) == torch.bfloat16
    assert compute_dtype(make_model()) == torch.float32


# The registry


def test_a_model_in_4_bits_is_another_model_and_loaded_once(fresh_folder, n_loads, bitsandbytes):
    whole = get_base_model(fresh_folder, device="cpu")
    quantised = get_base_model(fresh_folder, device="cpu", quantization="4bit")
    assert quantised is not whole
    assert get_base_model(fresh_folder, device="cpu", quantization="4bit") is quantised
    assert get_base_model(fresh_folder, device="cpu") is whole
    assert n_loads() == 2
    assert not linear_layers(whole.model, bitsandbytes)
    assert linear_layers(quantised.model, bitsandbytes)


# Errors


def test_a_missing_package_is_an_error_that_says_what_to_install(model_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    match = r'needs bitsandbytes\. Install it with pip install "instructclf\[quantization\]"'
    with pytest.raises(MissingExtraError, match=match):
        get_base_model(model_folder, device="cpu", quantization="4bit")


def test_an_unknown_quantization_is_an_error_that_lists_the_known_ones(model_folder):
    match = (
        r"'quantization' parameter of ModelOptions must be one of \('4bit',\) or None\. Got '8bit'"
    )
    with pytest.raises(ModelLoadingError, match=match):
        get_base_model(model_folder, device="cpu", quantization="8bit")


def test_double_precision_is_an_error(model_folder):
    match = r"computes in float32, bfloat16 or float16\. Got dtype='float64'"
    with pytest.raises(ModelLoadingError, match=match):
        get_base_model(model_folder, device="cpu", dtype="float64", quantization="4bit")


def test_models_without_quantization_need_no_package(fresh_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert get_base_model(fresh_folder, device="cpu").model.dtype == torch.float32


def test_the_log_level_of_bitsandbytes_is_restored(bitsandbytes):
    logger = logging.getLogger("bitsandbytes")
    before = logger.level
    check_quantization("4bit", torch.float32)
    assert logger.level == before


def test_models_without_4_bit_layers_stay_unchanged():
    model = make_model()
    expected = logits(model)
    prevent_repacking(model)
    assert torch.equal(logits(model), expected)
