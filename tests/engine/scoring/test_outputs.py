"""Logits at some positions equal those of all positions, also if the last layer stops there."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

from instructclf.engine.models.decoder_layers import named_decoder_layers
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.outputs import limit_last_feed_forward, output_at
from tests.fixtures import ARCHITECTURES, make_model

IDS = torch.arange(3, 33).view(3, 10)
ROWS = torch.tensor([[0, 0], [2, 2], [1, 1]])
COLUMNS = torch.tensor([[3, 9], [0, 1], [4, 4]])


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gemma2", "cohere", "granite"])
@torch.inference_mode()
def test_logits_at_some_positions_are_those_of_all_positions(architecture):
    view = shared_view(make_model(architecture))
    everywhere = view(IDS).logits
    with output_at(view, ROWS, COLUMNS):
        found = view(IDS).logits
    torch.testing.assert_close(found, everywhere[ROWS, COLUMNS], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_afterwards_the_model_computes_all_positions_again(model):
    view = shared_view(model)
    before = view(IDS).logits
    with pytest.raises(KeyError), output_at(view, ROWS, COLUMNS):
        raise KeyError
    assert torch.equal(view(IDS).logits, before)


@torch.inference_mode()
def test_the_base_model_and_other_views_are_left_alone(model):
    view, other = shared_view(model), shared_view(model)
    with output_at(other, ROWS, COLUMNS):  # it has the same hook
        other(IDS)
    with output_at(view, ROWS, COLUMNS):
        assert view(IDS).logits.shape[:2] == ROWS.shape
        assert other(IDS).logits.shape[:2] == IDS.shape
        assert model(IDS).logits.shape[:2] == IDS.shape


def test_each_thread_has_its_own_positions(model):
    view = shared_view(model)
    shapes = []

    def run():
        with torch.inference_mode():
            shapes.append(view(IDS).logits.shape[:2])

    with output_at(view, ROWS, COLUMNS):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert shapes == [IDS.shape]


# The last decoder layer


class ReturnsAPair(torch.nn.Module):
    """A feed-forward part that returns more than a tensor, as experts do."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, hidden):
        return self.part(hidden), hidden.shape[:-1]


@torch.inference_mode()
def test_a_part_that_returns_more_than_a_tensor_computes_all_positions(model):
    view = shared_view(model)
    layer = list(named_decoder_layers(view).values())[-1]
    layer.mlp = part = ReturnsAPair(layer.mlp)
    limit_last_feed_forward(view)
    hidden = torch.ones(3, 10, 32)
    expected, _ = ReturnsAPair.forward(part, hidden)
    with output_at(view, ROWS, COLUMNS, limits_last_layer=True):
        found, shape = part(hidden)
    assert shape == hidden.shape[:-1]
    assert torch.equal(found, expected)


def test_a_model_whose_layers_have_no_such_part_is_left_alone(model):
    view = shared_view(model)
    layer = list(named_decoder_layers(view).values())[-1]
    del layer.mlp
    limit_last_feed_forward(view)
    assert "forward" not in vars(layer)


def record_last_feed_forward(view):
    """Return a list that collects the shapes of all inputs of the part's first linear layer."""
    shapes = []
    part = list(named_decoder_layers(view).values())[-1].mlp
    first = next(module for module in part.modules() if module is not part)
    first.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape[:-1]))
    return shapes


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "gemma", "gpt2", "gpt_neox"])
@torch.inference_mode()
def test_a_limited_layer_gives_the_logits_of_the_whole_layer(architecture):
    view = shared_view(make_model(architecture))
    everywhere = view(IDS, use_cache=False).logits
    limit_last_feed_forward(view)
    shapes = record_last_feed_forward(view)
    with output_at(view, ROWS, COLUMNS, limits_last_layer=True):
        found = view(IDS, use_cache=False).logits
    torch.testing.assert_close(found, everywhere[ROWS, COLUMNS], atol=1e-5, rtol=1e-5)
    assert shapes == [ROWS.shape]


@torch.inference_mode()
def test_a_layer_is_limited_only_within_a_pass_that_allows_it(model):
    view = shared_view(model)
    limit_last_feed_forward(view)
    limit_last_feed_forward(view)  # a second time changes nothing
    shapes = record_last_feed_forward(view)
    with output_at(view, ROWS, COLUMNS):
        view(IDS)
    torch.testing.assert_close(view(IDS).logits, model(IDS).logits, atol=1e-5, rtol=1e-5)
    assert shapes == [IDS.shape, IDS.shape]


def test_limiting_a_view_leaves_the_base_model_alone(model):
    view = shared_view(model)
    limit_last_feed_forward(view)
    assert "forward" not in vars(list(named_decoder_layers(model).values())[-1].mlp)


@pytest.mark.parametrize("masked", [False, True], ids=["causal", "masked"])
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
@torch.inference_mode()
def test_attention_from_some_positions_is_that_from_all(architecture, masked):
    view = shared_view(make_model(architecture))
    prefix = PrefixAttention(view, list(range(40, 60)))
    rows = torch.arange(3).unsqueeze(1).expand(-1, 2)  # as layouts have them: text i is row i
    positions = torch.arange(20, 30).expand(3, -1)
    layout = SimpleNamespace(position_ids=positions, mask=masked or None)
    options = prefix.inputs(layout) | {"position_ids": positions}
    if masked:
        hidden = torch.ones(10, 10, dtype=torch.bool).triu(1)
        hidden[5:, 2] = True
        options["attention_mask"] = torch.zeros(3, 1, 10, 10).masked_fill(hidden, -1e30)
    with output_at(view, rows, COLUMNS):
        expected = view(IDS, **options).logits
    with output_at(view, rows, COLUMNS, limits_last_layer=True):
        found = view(IDS, **options).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
