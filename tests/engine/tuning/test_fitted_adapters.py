"""Weights of adapters without a model: applied, written, read, merged and averaged."""

from __future__ import annotations

import peft
import psutil
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.adapters import Adapter, LoraSettings, PeftSettings
from instructclf.engine.tuning.fitted_adapters import (
    FittedAdapter,
    average_adapters,
    read_fitted_adapter,
)
from tests.engine.tuning.test_adapters import disturb, logits
from tests.fixtures import make_model

LORA = LoraSettings(rank=2, alpha=4, dropout=0.0, target_modules="all-linear")
KINDS = {
    "LoRA": LORA,
    "LoRA of the embeddings": LoraSettings(2, 4, 0.0, ("embed_tokens", "q_proj")),
    "IA3": PeftSettings(
        peft.IA3Config(target_modules=["q_proj", "up_proj"], feedforward_modules=["up_proj"])
    ),
}
ARCHITECTURES = ["llama", "gpt2", "gpt_neox"]
each_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)


def fit(model, settings=LORA, seed=0):
    """Return an adapter with weights as training would leave them, and its model's logits."""
    adapter = Adapter(shared_view(model), settings, seed)
    disturb(adapter, seed)
    return FittedAdapter(settings, adapter.state()), logits(adapter.model)


@each_kind
def test_an_applied_adapter_gives_the_logits_of_the_one_that_was_trained(settings):
    model = make_model()
    fitted, expected = fit(model, settings)
    assert torch.equal(logits(fitted.apply(shared_view(model))), expected)
    assert not torch.allclose(expected, logits(model), atol=1e-2)


@each_kind
def test_the_base_model_does_not_change_when_an_adapter_is_applied_or_merged(settings):
    model = make_model()
    before = logits(model)
    fitted, _ = fit(model, settings)
    fitted.apply(shared_view(model))
    fitted.merge_into(model)
    assert torch.equal(logits(model), before)


@each_kind
def test_a_merged_model_gives_the_same_logits_without_adapter_layers(settings):
    model = make_model()
    fitted, expected = fit(model, settings)
    merged = fitted.merge_into(model)
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    assert [name for name, _ in merged.named_parameters()] == [
        name for name, _ in model.named_parameters()
    ]


@each_kind
def test_written_files_are_read_by_this_package_and_by_peft(settings, tmp_path):
    model = make_model()
    fitted, expected = fit(model, settings)
    fitted.write(shared_view(model), tmp_path, "some/base")
    read = read_fitted_adapter(tmp_path, settings)
    assert torch.equal(logits(read.apply(shared_view(model))), expected)
    by_peft = peft.PeftModel.from_pretrained(make_model(), tmp_path).eval()
    torch.testing.assert_close(logits(by_peft), expected, rtol=0, atol=1e-5)
    config = peft.PeftConfig.from_pretrained(tmp_path)
    assert config.base_model_name_or_path == "some/base"
    assert config.inference_mode


def test_a_folder_without_an_adapter_reads_as_none(tmp_path):
    assert read_fitted_adapter(tmp_path, LORA) is None


def test_an_adapter_that_was_read_has_no_file_open(tmp_path):
    fitted, _ = fit(make_model())
    fitted.write(shared_view(make_model()), tmp_path, "base")
    adapter = read_fitted_adapter(tmp_path, LORA)
    process = psutil.Process()
    used = [one.path for one in [*process.open_files(), *process.memory_maps()]]
    assert not [path for path in used if path.startswith(str(tmp_path))]
    assert adapter.weights.keys() == fitted.weights.keys()


def test_weights_of_another_shape_are_an_error_with_a_way_out():
    model = make_model()
    fitted, _ = fit(model, LoraSettings(3, 6, 0.0, "all-linear"))
    match = (
        r"do not fit: .* has the shape \(\d+, \d+\) there and \(\d+, \d+\) here.*warm_start=False"
    )
    with pytest.raises(ValueError, match=match):
        FittedAdapter(LORA, fitted.weights).apply(shared_view(model))


# Averages


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_average_adds_the_mean_of_all_updates(architecture):
    model = make_model(architecture)
    adapters = [fit(model, seed=seed)[0] for seed in range(3)]
    merged = average_adapters(adapters).merge_into(model)
    updates = [dict(adapter.merge_into(model).named_parameters()) for adapter in adapters]
    for name, weight in merged.named_parameters():
        expected = torch.stack([update[name] for update in updates]).mean(dim=0)
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)


def test_updates_of_embeddings_are_averaged_too():
    model = make_model()
    adapters = [fit(model, KINDS["LoRA of the embeddings"], seed)[0] for seed in range(2)]
    merged = average_adapters(adapters).merge_into(model).get_input_embeddings().weight
    updates = [adapter.merge_into(model).get_input_embeddings().weight for adapter in adapters]
    torch.testing.assert_close(merged, torch.stack(updates).mean(dim=0), rtol=0, atol=1e-6)


def test_rank_and_alpha_of_an_average_are_sums():
    model = make_model()
    adapters = [fit(model, seed=seed)[0] for seed in range(3)]
    average = average_adapters(adapters)
    assert average.settings == LoraSettings(6, 12, 0.0, "all-linear")
    assert {6} == {min(weight.shape) for weight in average.weights.values()}


def test_the_average_of_one_adapter_has_its_logits():
    model = make_model()
    fitted, expected = fit(model)
    average = average_adapters([fitted])
    assert average.settings == LORA
    assert torch.equal(logits(average.apply(shared_view(model))), expected)


def test_kinds_without_an_exact_mean_are_an_error_with_a_way_out():
    fitted, _ = fit(make_model(), KINDS["IA3"])
    match = r"IA3Config\(.* has no exact mean .*adapter=LoRA.*seed_average='log_proba'"
    with pytest.raises(ValueError, match=match):
        average_adapters([fitted, fitted])


def test_weights_that_are_no_factors_have_no_average():
    fitted, _ = fit(make_model())
    stranger = FittedAdapter(LORA, fitted.weights | {"layer.lora_magnitude": torch.ones(2)})
    with pytest.raises(ValueError, match=r"'layer\.lora_magnitude' is not a factor.*log_proba"):
        average_adapters([stranger, stranger])
