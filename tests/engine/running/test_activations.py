"""Activations and their derivatives are those of torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu, relu, silu

from instructclf.engine.running.activations import ACTIVATIONS

TORCH = {
    ("swish", ""): silu,
    ("gelu", "tanh"): lambda x: gelu(x, approximate="tanh"),
    ("gelu", "none"): gelu,
    ("relu", ""): relu,
}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: f"{a.name} {a.algorithm}")
def test_values_and_slopes_are_those_of_torch(activation):
    x = torch.cat([torch.linspace(-8, 8, 1001), torch.tensor([-1e4, -90.0, 90.0, 1e4])])
    leaf = x.double().requires_grad_()
    expected = TORCH[activation.name, activation.algorithm](leaf)
    (slopes,) = torch.autograd.grad(expected.sum(), leaf)
    before = x.clone()
    for found in (activation.values(x), activation.values_and_slopes(x)[0]):
        torch.testing.assert_close(found.double(), expected.detach(), atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(
        activation.values_and_slopes(x)[1].double(), slopes, atol=3e-6, rtol=3e-6
    )
    assert torch.equal(x, before)
