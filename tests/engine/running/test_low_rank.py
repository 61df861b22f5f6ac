"""The fused update equals adding, scaling and multiplying one after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from torch import nn

from instructclf.engine.models.views import shared_view
from instructclf.engine.running.low_rank import outputs_with_updates
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from tests.fixtures import make_model

FEW, MANY = 5, 100
"""Tokens, under a rank of 3."""


def given(n_tokens, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2, n_tokens, 6), "a": (3, 6), "b": (7, 3)}
    drawn = {n: torch.randn(s, generator=generator, dtype=dtype) for n, s in shapes.items()}
    layer = nn.Linear(6, 7, dtype=dtype).requires_grad_(requires_grad=False)
    layer.bias.fill_(0.5)
    layer.weight.copy_(torch.randn(7, 6, generator=generator, dtype=dtype))
    return layer, drawn


def linear_with_update(layer, x, a, b, scaling):
    (found,) = outputs_with_updates([layer], x, a, [b], [scaling])
    return found


def slowly(layer, x, a, b, scaling):
    return layer(x) + scaling * ((x @ a.T) @ b.T)


@pytest.mark.parametrize("needs_grad", [True, False], ids=["tuning", "predicting"])
@pytest.mark.parametrize("n_tokens", [FEW, MANY])
def test_the_update_is_added(n_tokens, needs_grad):
    layer, drawn = given(n_tokens)
    weight = layer.weight.clone()
    with torch.set_grad_enabled(needs_grad):
        found = linear_with_update(layer, **drawn, scaling=1.5)
    torch.testing.assert_close(found, slowly(layer, **drawn, scaling=1.5))
    assert torch.equal(layer.weight, weight)


@pytest.mark.parametrize("name", ["x", "a", "b"])
def test_gradients_are_those_of_separate_operations(name):
    gradients = []
    for function in (slowly, linear_with_update):
        layer, drawn = given(MANY)
        leaf = drawn[name].requires_grad_()
        function(layer, **drawn, scaling=1.5).pow(2).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("n_tokens", [FEW, MANY])
@torch.inference_mode()
def test_factors_in_full_precision_update_a_layer_in_half(n_tokens):
    layer, drawn = given(n_tokens)
    expected = slowly(layer, **drawn, scaling=2.0)
    half, x = layer.bfloat16(), drawn["x"].bfloat16()
    found = linear_with_update(half, x, drawn["a"].float(), drawn["b"].float(), scaling=2.0)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, atol=0.3, rtol=0.03)


@torch.inference_mode()
def test_a_small_update_is_not_rounded_away_in_half_precision():
    layer, drawn = given(MANY)
    half, x = layer.bfloat16(), drawn["x"].bfloat16()
    small = linear_with_update(half, x, drawn["a"].float(), drawn["b"].float(), scaling=1e-3)
    wanted = 1e-3 * ((x.double() @ drawn["a"].T) @ drawn["b"].T)
    found = small.double() - half(x).double()
    assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.3


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt_neox", "gpt2"])
def test_a_model_with_fused_updates_gives_the_logits_of_peft(architecture):
    model = make_model(architecture)
    settings = LoraSettings(4, 8.0, 0.0, "all-linear")
    adapter = Adapter(shared_view(model), settings, seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(weight.shape, generator=generator) / 10
        for name, weight in adapter.state().items()
    }
    adapter.load(state)
    by_peft = peft_model(model, settings, state)
    ids = torch.arange(3, 153).view(1, -1)
    with torch.inference_mode():
        found, expected = adapter.model(ids).logits, by_peft(ids).logits
        base = model(ids).logits
    assert (found - base).abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def peft_model(model, settings, state):
    """Put the adapter on a copy of the model, as PEFT does."""
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=settings.target_modules,
        fan_in_fan_out=model.config.model_type == "gpt2",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(copy.deepcopy(model), config).eval()
    set_peft_model_state_dict(wrapped, state)
    return wrapped


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("trains", [True, False])
def test_rows_that_are_more_precise_than_the_layer_stay_so(dtype, trains):
    view = shared_view(make_model(dtype=dtype))
    layer = view.model.layers[0].mlp.up_proj
    rows = torch.linspace(-1, 1, 70 * 32).view(2, 35, 32)
    a, b = torch.ones(2, 32).requires_grad_(trains), torch.ones(48, 2).requires_grad_(trains)
    with torch.set_grad_enabled(trains):
        found = linear_with_update(layer, rows, a, b, 0.5)
    expected = rows.double() @ (layer.weight.double() + 0.5 * b.double() @ a.double()).T
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=0.1, rtol=1e-2)
    if trains:
        found.sum().backward()
        assert a.grad.dtype == torch.float32
