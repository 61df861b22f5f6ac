"""On a CPU, a view in half precision computes in float32 between its layers."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.running.arithmetic import activation_dtype
from tests.fixtures import ARCHITECTURES, make_model

IDS = torch.arange(3, 43).view(2, 20)
HALF = [torch.bfloat16, torch.float16]
HAS_OWN_LAYERS = {"gpt2", "falcon"}
"""Architectures whose layers are not torch's, so that they are left as they are."""


def log_probabilities(model):
    with torch.inference_mode():
        return model(IDS).logits.double().log_softmax(dim=-1)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gemma3_text", "opt", "falcon", "phi"])
def test_scores_in_half_precision_are_closer_to_those_in_float32(architecture, dtype):
    half = make_model(architecture, dtype=dtype)
    exact = log_probabilities(make_model(architecture, dtype=dtype).float())
    view = shared_view(half)
    error = (log_probabilities(view) - exact).abs().mean()
    error_of_base = (log_probabilities(half) - exact).abs().mean()
    if architecture in HAS_OWN_LAYERS:
        assert activation_dtype(view) == dtype
        assert error < 1.5 * error_of_base
    else:
        assert activation_dtype(view) == torch.float32
        assert error < 0.9 * error_of_base


def test_weights_keep_their_precision_and_are_those_of_the_base_model():
    half = make_model(dtype=torch.bfloat16)
    view = shared_view(half)
    for (name, weight), shared in zip(half.named_parameters(), view.parameters(), strict=True):
        assert shared.data_ptr() == weight.data_ptr(), name
        assert shared.dtype == torch.bfloat16


def test_the_base_model_computes_as_before():
    half = make_model(dtype=torch.bfloat16)
    before = half(IDS).logits
    shared_view(half)
    assert torch.equal(half(IDS).logits, before)
    assert before.dtype == torch.bfloat16


def test_a_view_of_a_view_computes_alike():
    view = shared_view(make_model(dtype=torch.bfloat16))
    assert torch.equal(shared_view(view)(IDS).logits, view(IDS).logits)


def test_gradients_pass_through_layers_in_half_precision():
    view = shared_view(make_model(dtype=torch.bfloat16))
    states = view.get_input_embeddings()(IDS).detach().requires_grad_()
    view(inputs_embeds=states).logits.logsumexp(-1).mean().backward()
    exact = shared_view(make_model(dtype=torch.bfloat16).float())
    expected = states.detach().clone().requires_grad_()
    exact(inputs_embeds=expected).logits.logsumexp(-1).mean().backward()
    change = (states.grad - expected.grad).norm() / expected.grad.norm()
    assert 0 < change < 0.05
