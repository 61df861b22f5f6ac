"""New adapters change nothing, and trained ones are restored from their state, on one view."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from tests.fixtures import make_model

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def make_adapter(model, seed=0, **changes):
    options = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": "all-linear"} | changes
    return Adapter(shared_view(model), LoraSettings(**options), seed)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def disturb(adapter, seed=1):
    """Change the weights, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.parameters:
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_an_untrained_adapter_changes_nothing(architecture):
    model = make_model(architecture)
    torch.testing.assert_close(logits(make_adapter(model).model), logits(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_the_state_holds_all_that_an_adapter_learned(architecture):
    model = make_model(architecture)
    trained = make_adapter(model, seed=0)
    disturb(trained)
    restored = make_adapter(model, seed=1)
    restored.load(trained.state())
    assert torch.equal(logits(restored.model), logits(trained.model))
    assert not torch.allclose(logits(restored.model), logits(model), atol=1e-2)


def test_a_restored_adapter_drops_nothing():
    trained = make_adapter(make_model(), dropout=0.5)
    disturb(trained)
    trained._set_dropout(active=False)
    restored = make_adapter(make_model(), dropout=0.5)
    restored.load(trained.state())
    assert torch.equal(logits(restored.model), logits(trained.model))


def test_dropout_is_switched_on_for_training_and_off_again():
    adapter = make_adapter(make_model(), dropout=0.5)
    disturb(adapter)
    adapter._set_dropout(active=True)
    assert not torch.equal(logits(adapter.model), logits(adapter.model))
    adapter._set_dropout(active=False)
    assert torch.equal(logits(adapter.model), logits(adapter.model))


def test_the_base_model_never_drops_anything():
    model = make_model("gpt2", attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)
    adapter = make_adapter(model)
    adapter._set_dropout(active=True)
    assert torch.equal(logits(adapter.model), logits(adapter.model))


def test_the_state_is_a_copy():
    adapter = make_adapter(make_model())
    before = adapter.state()
    disturb(adapter)
    after = adapter.state()
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_the_state_holds_no_base_weights():
    model = make_model()
    names = set(make_adapter(model).state())
    assert names
    assert all("lora_" in name for name in names)
    assert not names & set(model.state_dict())


def test_the_seed_decides_the_initial_weights():
    model = make_model()
    same, again, other = (make_adapter(model, seed).state() for seed in (3, 3, 4))
    assert all(torch.equal(same[name], again[name]) for name in same)
    assert not all(torch.equal(same[name], other[name]) for name in same)


def test_the_global_generator_is_not_advanced():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make_adapter(make_model(), seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_only_the_adapter_is_trained():
    adapter = make_adapter(make_model())
    trained = {name for name, weight in adapter.model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert len(adapter.parameters) == len(trained)


def test_weights_to_train_are_in_full_precision_on_a_model_in_half():
    adapter = make_adapter(make_model(dtype=torch.bfloat16))
    assert {weight.dtype for weight in adapter.parameters} == {torch.float32}
    assert adapter.model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_target_modules_can_be_named():
    state = make_adapter(make_model(), target_modules=("q_proj",)).state()
    assert all("q_proj" in name for name in state)


def test_rank_and_scale_are_those_asked_for():
    state = make_adapter(make_model(), rank=3).state()
    assert {3} == {min(weight.shape) for weight in state.values()}
    model = make_model()
    weak, strong = make_adapter(model, alpha=1), make_adapter(model, alpha=8)
    disturb(weak)
    strong.load(weak.state())
    shift = logits(weak.model) - logits(model)
    assert (logits(strong.model) - logits(model)).norm() > 2 * shift.norm()
