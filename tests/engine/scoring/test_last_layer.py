"""The last layer computes what is read, and the scores are those of computing everything."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.decoder_layers import named_decoder_layers
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.outputs import limit_last_feed_forward, output_at
from tests.fixtures import make_model

IDS = torch.arange(3, 33).view(3, 10)
ROWS = torch.tensor([[0, 0], [1, 1], [2, 2]])
COLUMNS = torch.tensor([[3, 9], [0, 1], [4, 4]])
ARCHITECTURES = ["llama", "qwen3", "mistral", "gemma", "gpt2", "gpt_neox"]


def widths_of_the_last_feed_forward(view):
    """Return a list that gets the shape of whatever its first linear layer reads from now on."""
    widths = []
    part = list(named_decoder_layers(view).values())[-1].mlp
    first = next(module for module in part.modules() if module is not part)
    first.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[:-1]))
    return widths


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_logits_are_those_of_the_whole_layer(architecture):
    view = shared_view(make_model(architecture))
    everywhere = view(IDS, use_cache=False).logits
    limit_last_feed_forward(view)
    widths = widths_of_the_last_feed_forward(view)
    with output_at(view, ROWS, COLUMNS, limits_last_layer=True):
        found = view(IDS, use_cache=False).logits
    torch.testing.assert_close(found, everywhere[ROWS, COLUMNS], atol=1e-5, rtol=1e-5)
    assert widths == [ROWS.shape]


@torch.inference_mode()
def test_without_leave_the_whole_layer_is_computed(model):
    view = shared_view(model)
    limit_last_feed_forward(view)
    limit_last_feed_forward(view)  # a second time changes nothing
    widths = widths_of_the_last_feed_forward(view)
    with output_at(view, ROWS, COLUMNS):
        view(IDS)
    assert torch.equal(view(IDS).logits, model(IDS).logits)
    assert widths == [IDS.shape, IDS.shape]


def test_the_base_model_is_left_alone(model):
    view = shared_view(model)
    limit_last_feed_forward(view)
    assert "forward" not in vars(list(named_decoder_layers(model).values())[-1].mlp)


@pytest.mark.parametrize("masked", [False, True], ids=["causal", "masked"])
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
@torch.inference_mode()
def test_attention_from_some_places_is_that_from_all(architecture, masked):
    view = shared_view(make_model(architecture))
    prefix = PrefixAttention(view, list(range(40, 60)))
    options = prefix.inputs(3) | {"position_ids": torch.arange(20, 30).expand(3, -1)}
    if masked:
        hidden = torch.ones(10, 10, dtype=torch.bool).triu(1)
        hidden[5:, 2] = True
        options["attention_mask"] = torch.zeros(3, 1, 10, 10).masked_fill(hidden, -1e30)
    with output_at(view, ROWS, COLUMNS):
        expected = view(IDS, **options).logits
    with output_at(view, ROWS, COLUMNS, limits_last_layer=True):
        found = view(IDS, **options).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
