"""Decoder layers are found in every architecture, and can run again to save memory."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.decoder_layers import (
    gradient_checkpointing,
    n_frozen_layers,
    named_decoder_layers,
    replacing_forward,
)
from instructclf.engine.models.views import shared_view
from tests.fixtures import ARCHITECTURES, make_model

IDS = torch.arange(3, 40).view(1, -1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers_are_found_in_order(architecture):
    model = make_model(architecture)
    layers = named_decoder_layers(model)
    assert len(layers) == 2
    assert all(model.get_submodule(name) is layer for name, layer in layers.items())
    seen = []
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: seen.append(name))
    model(IDS)
    assert seen == list(layers)


def test_all_layers_are_tuned_unless_told_otherwise(model):
    assert [n_frozen_layers(model, n_tuned) for n_tuned in (None, 2, 1)] == [0, 0, 1]


def test_more_layers_than_there_are_is_an_error_with_a_way_out(model):
    match = (
        r"LoRA\(n_layers=3\) asks for more than the 2 layers of the model\. Set n_layers to 2 or l"
    )
    with pytest.raises(ValueError, match=match):
        n_frozen_layers(model, 3)


def test_layers_that_are_not_in_a_list_are_an_error_with_a_way_out(model):
    view = shared_view(model)
    view.config.num_hidden_layers = 5
    match = r"LlamaForCausalLM does not keep its layers in one list\. Use n_layers=None"
    with pytest.raises(ValueError, match=match):
        n_frozen_layers(view, 1)


def test_a_replaced_forward_is_restored(model):
    view = shared_view(model)
    layer = next(iter(named_decoder_layers(view).values()))
    before = view(IDS).logits
    with replacing_forward(layer, lambda hidden, **_: hidden):
        assert not torch.allclose(view(IDS).logits, before)
        with replacing_forward(layer, lambda hidden, **_: -hidden):
            inner = view(IDS).logits
        assert not torch.allclose(view(IDS).logits, inner)
    assert torch.equal(view(IDS).logits, before)
    assert "forward" not in vars(layer)


def losses_and_gradients(view):
    view.requires_grad_(requires_grad=True).zero_grad()
    kept = []

    def note(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = view(IDS, use_cache=False).logits.square().mean()
    n_kept = sum(tensor.numel() for tensor in kept)
    loss.backward()
    return loss, {name: weight.grad.clone() for name, weight in view.named_parameters()}, n_kept


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(architecture):
    view = shared_view(make_model(architecture))
    loss, gradients, n_kept = losses_and_gradients(view)
    with gradient_checkpointing(named_decoder_layers(view).values()):
        again, same, n_less = losses_and_gradients(view)
    assert n_less < 0.7 * n_kept
    torch.testing.assert_close(again, loss, rtol=0, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=0, atol=0)


def test_gradient_checkpointing_does_nothing_without_gradients(model):
    view = shared_view(model)
    with gradient_checkpointing(named_decoder_layers(view).values()), torch.inference_mode():
        logits = view(IDS).logits
    torch.testing.assert_close(logits, model(IDS).logits, rtol=1e-5, atol=1e-5)
