"""Weights that a view shares can be read and not written, whatever operation tries it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.guarding import SharedWeightError, SharedWeights
from tests.fixtures import make_model

WRITES = {
    "in place": lambda weight, other: weight.data.sub_(1),
    "in place, without data": lambda weight, other: weight.detach().mul_(2),
    "into a part": lambda weight, other: weight.data[0].fill_(1),
    "into a reshaped part": lambda weight, other: weight.data.view(-1)[3:].zero_(),
    "into an output": lambda weight, other: torch.add(other, 1, out=weight.data),
    "by an initialisation": lambda weight, other: nn.init.zeros_(weight),
    "by assignment to elements": lambda weight, other: weight.data.__setitem__(0, 1.0),
    "by copying": lambda weight, other: weight.data.copy_(other),
    "many at once": lambda weight, other: torch._foreach_add_([torch.ones(1), weight.data], 1),
}
"""Functions of a guarded weight and of another tensor of its shape."""


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writing_into_a_guarded_weight_is_an_error_before_it_changes(write):
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    with SharedWeights(layer).guarded(), pytest.raises(SharedWeightError):
        write(layer.weight, before)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_other_tensors_can_be_written(write):
    layer, other = nn.Linear(3, 3), nn.Parameter(torch.full((3, 3), 7.0))
    with SharedWeights(layer).guarded():
        write(other, layer.weight.detach())
    assert not torch.equal(other, torch.full((3, 3), 7.0))


def test_guarded_weights_can_be_read_and_copied():
    layer = nn.Linear(3, 3)
    with SharedWeights(layer).guarded():
        copied = layer.weight.data.clone().add_(1)
        output = layer(torch.ones(3))
    assert torch.equal(copied, layer.weight + 1)
    assert torch.equal(output, layer(torch.ones(3)))


def test_buffers_are_guarded_too():
    norm = nn.BatchNorm1d(2)
    with SharedWeights(norm).guarded(), pytest.raises(SharedWeightError):
        norm.running_mean.add_(1)


def test_the_guard_ends_with_its_block():
    layer = nn.Linear(3, 3)
    with SharedWeights(layer).guarded():
        pass
    layer.weight.data.zero_()
    assert not layer.weight.any()


def test_weights_on_no_device_are_not_guarded():
    """All of them have the same address, none at all."""
    layer = nn.Linear(3, 3, device="meta")
    with SharedWeights(layer).guarded():
        layer.weight.data.add_(1)
        torch.empty(2, device="meta").zero_()


def test_a_weight_that_was_exchanged_is_noticed():
    layer = nn.Linear(3, 3).requires_grad_(requires_grad=False)
    shared = SharedWeights(layer)
    shared.check_unchanged()
    layer.weight.data = layer.weight.data.clone()
    with pytest.raises(SharedWeightError):
        shared.check_unchanged()


def test_a_weight_that_is_trained_may_be_exchanged():
    layer = nn.Linear(3, 3)
    shared = SharedWeights(layer)
    layer.weight.data = layer.weight.data.clone()
    shared.check_unchanged()


def test_only_weights_to_train_are_copied():
    model = make_model()
    view = shared_view(model)
    shared = SharedWeights(view)
    view.lm_head.weight.requires_grad_(requires_grad=True)
    shared.copy_trained(view.parameters())
    before = dict(model.named_parameters())
    copied = {
        name
        for name, weight in view.named_parameters()
        if weight.data_ptr() != before[name].data_ptr()
    }
    assert copied == {"lm_head.weight"}
    assert torch.equal(view.lm_head.weight, model.lm_head.weight)


def test_new_weights_are_not_copied():
    layer = nn.Linear(3, 3)
    shared = SharedWeights(layer)
    layer.update = nn.Parameter(torch.ones(2))
    address = layer.update.data_ptr()
    shared.copy_trained(layer.parameters())
    assert layer.update.data_ptr() == address
