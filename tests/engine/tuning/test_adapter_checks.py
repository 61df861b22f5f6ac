"""Checks of new adapters let correct ones pass, name what is wrong, and change nothing."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.adapter_checks import (
    check_same_shapes,
    check_trained_in_full_precision,
    check_works_in_layers,
    describe,
)
from tests.fixtures import make_model

CONFIG = peft.LoraConfig(r=2, target_modules=["q_proj"])


class Shifted(nn.Module):
    """A wrapper that does part of the work outside the model's layers."""

    def __init__(self, model, shift):
        super().__init__()
        self.model, self.shift, self.config = model, shift, model.config

    def forward(self, **inputs):
        output = self.model(**inputs)
        output.logits = output.logits + self.shift
        return output


class LooksAhead(nn.Module):
    """A layer that adds the mean over all tokens, those that come later included."""

    def __init__(self, layer, weight):
        super().__init__()
        self.layer, self.weight = layer, weight

    def forward(self, x):
        return self.layer(x) + self.weight * x.mean(dim=1, keepdim=True)


class Reads(nn.Module):
    config = None

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, **inputs):
        raise self.error


@pytest.fixture
def view():
    return shared_view(make_model())


def make_weight():
    return nn.Parameter(torch.zeros(32))


# Precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_in_full_precision_can_be_trained(dtype):
    check_trained_in_full_precision([nn.Parameter(torch.ones(2, dtype=dtype))], CONFIG)


def test_weights_in_half_precision_are_an_error_that_names_all_types():
    types = [torch.float16, torch.float32, torch.bfloat16]
    weights = [nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in types]
    match = (
        r"in bfloat16, float16, .*LoraConfig\(r=2.*model_options=ModelOptions\(dtype='float32'\)"
    )
    with pytest.raises(ValueError, match=match):
        check_trained_in_full_precision(weights, CONFIG)


# Work in layers


def test_a_wrapper_that_only_calls_the_view_is_accepted(view):
    check_works_in_layers(Shifted(view, 0.0), view, [], CONFIG)


def test_work_outside_the_layers_is_an_error(view):
    wrapped = Shifted(view, torch.ones(600))
    with pytest.raises(ValueError, match=r"outside the model's layers.*LoraConfig\(r=2.*Choose"):
        check_works_in_layers(wrapped, view, [], CONFIG)


def test_a_weight_that_has_no_effect_at_first_is_found_to_work_outside(view):
    """An untrained adapter of many kinds changes nothing, so its weights get noise."""
    weight = nn.Parameter(torch.zeros(600))
    with pytest.raises(ValueError, match="outside the model's layers"):
        check_works_in_layers(Shifted(view, weight), view, [weight], CONFIG)


def test_a_layer_that_looks_ahead_is_an_error(view):
    weight = make_weight()
    layer = view.model.layers[0]
    layer.mlp = LooksAhead(layer.mlp, weight)
    with pytest.raises(ValueError, match="depends on the tokens after it.*Choose another kind"):
        check_works_in_layers(Shifted(view, 0.0), view, [weight], CONFIG)


@pytest.mark.parametrize("kind", [TypeError, ValueError, RuntimeError, AttributeError, KeyError])
def test_an_adapter_that_needs_other_inputs_is_an_error_that_quotes_peft(kind, view):
    with pytest.raises(ValueError, match="cannot be scored with this adapter.*it wants more") as e:
        check_works_in_layers(Reads(kind("it wants more")), view, [], CONFIG)
    assert isinstance(e.value.__cause__, kind)


@pytest.mark.parametrize("shift", [0.0, 10.0], ids=["accepted", "refused"])
def test_weights_are_restored_in_any_case(shift, view):
    weight = nn.Parameter(torch.linspace(-1, 1, 600))
    before = weight.detach().clone()
    try:
        check_works_in_layers(Shifted(view, shift), view, [weight], CONFIG)
    except ValueError:
        assert shift
    assert torch.equal(weight, before)


def test_the_check_draws_no_random_numbers(view):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_works_in_layers(Shifted(view, 0.0), view, [make_weight()], CONFIG)
    assert torch.equal(torch.rand(3), expected)


# Shapes


WEIGHTS = {"a": torch.zeros(2, 3), "b": torch.zeros(3)}


def test_weights_of_the_same_shapes_fit():
    check_same_shapes({name: weight + 1 for name, weight in WEIGHTS.items()}, WEIGHTS)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (WEIGHTS | {"a": torch.zeros(3, 2)}, r"a has the shape \(3, 2\) there and \(2, 3\) here"),
        ({"a": WEIGHTS["a"]}, r"b has the shape None there and \(3,\) here"),
        (WEIGHTS | {"c": torch.zeros(1)}, r"c has the shape \(1,\) there and None here"),
    ],
    ids=["another shape", "a weight is missing", "a weight too many"],
)
def test_other_weights_are_an_error_with_a_way_out(given, match):
    with pytest.raises(ValueError, match=rf"{match}.*TrainingOptions\(warm_start=False\)"):
        check_same_shapes(given, WEIGHTS)


# Descriptions


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (peft.IA3Config(), "IA3Config()"),
        (peft.LoraConfig(r=4, use_dora=True), "LoraConfig(r=4, use_dora=True)"),
        (peft.LoraConfig(task_type="SEQ_CLS", rank_pattern={}), "LoraConfig()"),
        (peft.LoraConfig(rank_pattern={"q": 2}), "LoraConfig(rank_pattern={'q': 2})"),
    ],
    ids=["defaults", "two fields", "fields that the type implies", "a dictionary"],
)
def test_a_description_holds_the_fields_that_were_set(config, text):
    assert describe(config) == text
