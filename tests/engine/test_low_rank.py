"""The fused update equals adding, scaling and multiplying one after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

from instructclf.engine.adapters import Adapter, LoraSettings
from instructclf.engine.low_rank import add_low_rank_update
from instructclf.engine.views import shared_view
from tests.fixtures import make_model


def factors(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = {"output": (2, 5, 7), "x": (2, 5, 6), "a": (3, 6), "b": (7, 3)}
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()
    }


def slowly(output, x, a, b, scaling):
    return output + scaling * ((x @ a.T) @ b.T)


def test_the_update_is_added():
    given = factors()
    expected = slowly(**given, scaling=1.5)
    torch.testing.assert_close(add_low_rank_update(**given, scaling=1.5), expected)


@pytest.mark.parametrize("name", ["x", "a", "b"])
def test_gradients_are_those_of_the_plain_sum(name):
    gradients = []
    for function in (slowly, add_low_rank_update):
        given = factors()
        leaf = given[name].requires_grad_()
        given["output"] = given["output"] * 1.0
        function(**given, scaling=1.5).pow(2).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_factors_in_full_precision_update_an_output_in_half():
    given = factors()
    expected = slowly(**given, scaling=2.0)
    half = {name: given[name].bfloat16() for name in ("output", "x")}
    full = {name: given[name].float() for name in ("a", "b")}
    found = add_low_rank_update(**half, **full, scaling=2.0)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, atol=0.2, rtol=0.03)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt_neox", "gpt2"])
def test_a_model_with_fused_updates_gives_the_logits_of_pefts_own(architecture):
    model = make_model(architecture)
    settings = LoraSettings(4, 8.0, 0.0, "all-linear")
    adapter = Adapter(shared_view(model), settings, seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(weight.shape, generator=generator) / 10
        for name, weight in adapter.state().items()
    }
    adapter.load(state)
    plain = peft_model(model, settings, state)
    ids = torch.arange(3, 40).view(1, -1)
    with torch.inference_mode():
        found, expected = adapter.model(ids).logits, plain(ids).logits
        base = model(ids).logits
    assert (found - base).abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def peft_model(model, settings, state):
    """Put the adapter on a copy of the model, as PEFT does it by itself."""
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=settings.target_modules,
        fan_in_fan_out=model.config.model_type == "gpt2",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(copy.deepcopy(model), config).eval()
    set_peft_model_state_dict(wrapped, state)
    return wrapped
