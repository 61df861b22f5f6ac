"""Gated feed-forward parts with their activation inside the products compute what they did."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from instructclf.engine.models.views import shared_view
from instructclf.engine.running import arithmetic
from instructclf.engine.running.feed_forward import fuse_feed_forward
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from tests.fixtures import make_model

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
GATED = ["llama", "qwen3", "mistral", "gemma", "gemma3_text", "olmo"]
NOT_GATED = ["gpt2", "gpt_neox", "phi", "opt"]


@pytest.fixture(params=[True, False], ids=["with bfloat16 instructions", "without"])
def _processor(request, monkeypatch):
    monkeypatch.setattr(arithmetic, "has_bfloat16_instructions", lambda: request.param)


def part_of(architecture="llama", **changes):
    return make_model(architecture, **changes).model.layers[0].mlp


def make_states(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def is_fused(module):
    return "forward" in vars(module)


@pytest.mark.parametrize("architecture", [*GATED, *NOT_GATED])
def test_gated_parts_are_found_by_what_they_compute(architecture):
    model = make_model(architecture)
    fuse_feed_forward(model)
    fused = [module for module in model.modules() if is_fused(module)]
    assert len(fused) == (2 if architecture in GATED else 0)


@pytest.mark.usefixtures("_processor")
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize("has_bias", [True, False])
@torch.inference_mode()
def test_outputs_are_those_of_the_part_in_double_precision(has_bias, activation, dtype):
    model = make_model(mlp_bias=has_bias, hidden_act=activation).to(dtype)
    part, states = shared_view(model).model.layers[0].mlp, make_states(3, 5, 32)
    assert is_fused(part)
    expected = model.double().model.layers[0].mlp(states.double())
    found = part(states)
    assert found.dtype == states.dtype
    tolerance = TOLERANCES[dtype]
    atol = tolerance * expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected, atol=atol, rtol=tolerance)


@pytest.mark.skipif(
    not arithmetic.has_bfloat16_instructions(), reason="This processor multiplies in float32."
)
@torch.inference_mode()
def test_bfloat16_rounds_less_than_step_by_step():
    states, part = make_states(100, 32), part_of(dtype=torch.bfloat16)
    exact = part_of(dtype=torch.bfloat16).double()(states.double())
    step_by_step = part(states.bfloat16()).double()
    fuse_feed_forward(part)
    error = (part(states) - exact).abs().mean()
    assert error < 0.9 * (step_by_step - exact).abs().mean()


def test_parts_with_another_activation_stay_as_they_are():
    part = part_of(hidden_act="tanh")
    fuse_feed_forward(part)
    assert not is_fused(part)


def test_parts_that_do_more_than_their_layers_say_stay_as_they_are():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            part = part_of()
            self.gate_proj, self.up_proj, self.down_proj = (
                part.gate_proj,
                part.up_proj,
                part.down_proj,
            )
            self.act_fn = ACT2FN["silu"]

        def forward(self, states):
            return self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states)) / 2

    part = Scaled()
    fuse_feed_forward(part)
    assert not is_fused(part)


def test_gradients_are_those_of_the_architecture():
    view, plain = shared_view(make_model()), make_model()
    found, expected = (gradient(model.model.layers[0].mlp) for model in (view, plain))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("n_tokens", [10, 200], ids=["few tokens", "many tokens"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_parts_with_updated_layers_predict_and_train_as_layer_by_layer(dtype, n_tokens):
    view = shared_view(make_model(dtype=dtype))
    settings = LoraSettings(rank=3, alpha=6, dropout=0.0, target_modules="all-linear")
    adapter = Adapter(view, settings)
    for weight in adapter.parameters:
        weight.data.normal_(generator=torch.Generator().manual_seed(1))
    part = view.model.layers[0].mlp
    assert is_fused(part)
    found, expected = (
        passes(forward, adapter.parameters, n_tokens)
        for forward in (part.forward, lambda states: type(part).forward(part, states))
    )
    for one, other in zip(found, expected, strict=True):
        tolerance = 3 * TOLERANCES[dtype] * other.abs().max().item()
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


def passes(forward, weights, n_tokens):
    """Return what a part predicts, its output in training, and all its gradients."""
    states = make_states(1, n_tokens, 32)
    with torch.inference_mode():
        predicted = forward(states)
    leaf = states.clone().requires_grad_()
    output = forward(leaf)
    found = torch.autograd.grad(output.square().mean(), [leaf, *weights], allow_unused=True)
    return [predicted, output.detach(), *(each for each in found if each is not None)]


def gradient(part):
    states = make_states(3, 5, 32).requires_grad_()
    part(states).square().sum().backward()
    return states.grad


@torch.inference_mode()
def test_hooks_and_layers_put_in_later_still_run():
    view, states = shared_view(make_model()), make_states(3, 5, 32)
    part = view.model.layers[0].mlp
    expected, seen = part(states), []
    handle = part.up_proj.register_forward_hook(lambda *_: seen.append(True))
    torch.testing.assert_close(part(states), expected)
    assert seen == [True]
    handle.remove()
    part.up_proj = nn.Sequential(part.up_proj, nn.Flatten(start_dim=-1))
    torch.testing.assert_close(part(states), expected)


@torch.inference_mode()
def test_a_view_of_a_view_computes_with_its_own_layers():
    view, states = shared_view(make_model()), make_states(3, 5, 32)
    other = shared_view(view)
    expected = view.model.layers[0].mlp(states)
    other.model.layers[0].mlp.down_proj.weight = nn.Parameter(torch.zeros(32, 48))
    assert torch.equal(view.model.layers[0].mlp(states), expected)
    assert not other.model.layers[0].mlp(states).any()
