"""A view shares only weights with its base model."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from tests.fixtures import make_model

LORA = LoraSettings(rank=2, alpha=4, dropout=0.0, target_modules="all-linear")
IDS = torch.tensor([[5, 6, 7, 8]])


def snapshot(model):
    """Return everything about a model that a view could change."""
    return {
        "weights": {name: weight.clone() for name, weight in model.state_dict().items()},
        "flags": {name: weight.requires_grad for name, weight in model.named_parameters()},
        "gradients": {name: weight.grad for name, weight in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "types": {name: type(module) for name, module in model.named_modules()},
        "config": model.config.to_dict(),
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one["weights"].keys() | other["weights"].keys():
        assert torch.equal(one["weights"][name], other["weights"][name]), name
    for what in one.keys() - {"weights"}:
        assert one[what] == other[what]


def train_a_step(adapter):
    loss = adapter.model(IDS).logits.logsumexp(-1).mean()
    loss.backward()
    optimiser = torch.optim.SGD(adapter.parameters, lr=1.0)
    optimiser.step()
    return loss.item()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_training_an_adapter_does_not_change_the_base_model(architecture, tied):
    model = make_model(architecture, tie_word_embeddings=tied).train()
    model.requires_grad_(requires_grad=True)
    before = snapshot(model)
    adapter = Adapter(shared_view(model), LORA, seed=0)
    first = train_a_step(adapter)
    assert train_a_step(adapter) != first
    assert_same(snapshot(model), before)


def test_an_adapter_does_not_change_another_view():
    model = make_model()
    one, other = shared_view(model), shared_view(model)
    before = snapshot(other)
    expected, of_model = other(IDS).logits, model(IDS).logits
    train_a_step(Adapter(one, LORA, seed=0))
    assert_same(snapshot(other), before)
    assert torch.equal(other(IDS).logits, expected)
    assert torch.equal(model(IDS).logits, of_model)


def test_a_view_shares_the_memory_of_weights():
    model = make_model()
    view = shared_view(model)
    addresses = {name: weight.data_ptr() for name, weight in model.state_dict().items()}
    assert {name: weight.data_ptr() for name, weight in view.state_dict().items()} == addresses


def test_tied_weights_stay_tied():
    view = shared_view(make_model(tie_word_embeddings=True))
    assert view.get_input_embeddings().weight is view.get_output_embeddings().weight


def test_a_view_is_frozen_and_in_evaluation_mode():
    model = make_model().train()
    view = shared_view(model)
    assert not any(weight.requires_grad for weight in view.parameters())
    assert not any(module.training for module in view.modules())
    assert model.training


def test_a_view_has_its_own_modules_and_configuration():
    model = make_model()
    view = shared_view(model)
    assert type(view) is type(model)
    assert not set(map(id, view.modules())) & set(map(id, model.modules()))
    view.config.use_cache = not model.config.use_cache
    view.generation_config.temperature = 7.0
    assert model.config.use_cache != view.config.use_cache
    assert model.generation_config.temperature != 7.0
