"""Norms in few passes are found by what they compute, and compute it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from instructclf.engine.running import norms
from tests.fixtures import make_model


def make_norm(architecture, dtype=torch.float32):
    norm = make_model(architecture).model.norm
    norm.weight.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
    return norm.to(dtype).requires_grad_(False)


def make_states(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("architecture", "offset"),
    [("llama", 0), ("qwen3", 0), ("mistral", 0), ("gemma", 1), ("gemma3_text", 1)],
)
def test_norms_are_found_by_what_they_add_to_their_weight(architecture, offset, monkeypatch):
    monkeypatch.setattr(norms, "_offsets", {})
    assert norms._find_offset(make_model(architecture).model.norm) == offset


def test_a_norm_that_computes_something_else_stays_as_it_is():
    class OtherRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.eps = 1e-6
            self.weight = nn.Parameter(torch.ones(8))

        def forward(self, states):
            return states / states.abs().mean(-1, keepdim=True) * self.weight

    norm = OtherRMSNorm()
    norms.fuse_norms(norm)
    assert "forward" not in vars(norm)


def test_a_norm_that_torch_computes_at_once_gives_the_same_numbers():
    norm, states = make_norm("llama"), make_states(3, 5, 32)
    torch.testing.assert_close(norms._normalise_at_once(norm, states), norm(states))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("architecture", ["llama", "gemma"])
def test_norms_on_a_cpu_and_their_gradients_stay_the_same(architecture, dtype):
    norm, states = make_norm(architecture, dtype), make_states(3, 5, 32)
    expected, expected_gradient = run(norm, states)
    norms.fuse_norms(norm)
    assert "forward" in vars(norm)
    found, gradient = run(norm, states)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    with torch.inference_mode():
        torch.testing.assert_close(norm(states), expected)


def run(norm, states):
    states = states.clone().requires_grad_()
    normed = norm(states)
    normed.mul(make_states(*states.shape).roll(1)).sum().backward()
    return normed.detach(), states.grad


def test_gradients_reach_the_weight_of_a_norm_that_is_trained():
    norm, states = make_norm("llama"), make_states(3, 5, 32)
    norms.fuse_norms(norm)
    norm.weight.requires_grad_()
    norm(states).square().sum().backward()
    assert norm.weight.grad.abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_states_that_are_not_in_float32_are_left_to_the_architecture(dtype):
    norm, states = make_norm("gemma"), make_states(3, 5, 32).to(dtype)
    expected = norm(states)
    norms.fuse_norms(norm)
    assert torch.equal(norm(states), expected)
