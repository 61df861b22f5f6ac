"""LoRA layers that share an input are computed together, with the factors as they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from tests.fixtures import make_model

IDS = torch.arange(3, 23).view(2, 10)


def make_adapter(architecture="llama", dtype=torch.float32):
    view = shared_view(make_model(architecture, dtype=dtype))
    adapter = Adapter(view, LoraSettings(4, 8.0, 0.0, "all-linear"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter.parameters:
            weight.copy_(torch.randn(weight.shape, generator=generator) / 10)
    return adapter


def names_of_groups(adapter):
    """Return the names of the layers of each group in the first decoder layer."""
    names = {id(module): name.rpartition(".")[2] for name, module in adapter.model.named_modules()}
    first = next(m for m in adapter.model.modules() if hasattr(m, "lora_A"))
    groups = vars(first)["forward"].func.__self__.groups
    return {tuple(names[id(layer)] for layer in group.layers) for group in groups}


@pytest.mark.parametrize(
    ("architecture", "groups"),
    [
        ("llama", {("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"),
                   ("down_proj",)}),
        ("gpt_neox", {("query_key_value",), ("dense",), ("dense_h_to_4h",), ("dense_4h_to_h",)}),
    ],
)  # fmt: skip
def test_layers_that_read_the_same_tensor_are_one_group(architecture, groups):
    assert names_of_groups(make_adapter(architecture)) == groups


@pytest.mark.parametrize("trains", [True, False], ids=["tuning", "predicting"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_changed_factors_take_effect(dtype, trains):
    adapter = make_adapter(dtype=dtype)
    with torch.set_grad_enabled(trains):
        before = adapter.model(IDS).logits.detach()
        with torch.no_grad():
            adapter.parameters[1].add_(0.5)
        after = adapter.model(IDS).logits.detach()
        fresh = copy.deepcopy(adapter.model)(IDS).logits.detach()
    assert not torch.allclose(before, after, atol=1e-2)
    assert torch.equal(after, fresh)


def test_several_backward_passes_add_up():
    adapter = make_adapter(dtype=torch.bfloat16)
    gradients = []
    for ids in (IDS[:1], IDS[1:], IDS):
        adapter.model(ids).logits.float().sum().backward()
        gradients.append([weight.grad.clone() for weight in adapter.parameters])
        if len(gradients) == 2:
            nn.Module.zero_grad(adapter.model)
    for found, expected in zip(gradients[1], gradients[2], strict=True):
        assert found.dtype == torch.float32
        assert (found - expected).norm() <= 0.05 * expected.norm()


def test_a_layer_that_is_called_alone_is_computed_alone():
    adapter = make_adapter()
    layer = adapter.model.model.layers[0].self_attn.k_proj
    rows = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    (name,) = layer.active_adapters
    update = layer.lora_B[name](layer.lora_A[name](rows)) * layer.scaling[name]
    expected = layer.base_layer(rows) + update
    for _ in range(2):
        torch.testing.assert_close(layer(rows), expected)
        torch.testing.assert_close(layer(rows.clone()), expected)
