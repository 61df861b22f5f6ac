"""Logits at some places are those of all places, read there."""

from __future__ import annotations

import threading

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.outputs import output_at
from tests.fixtures import ARCHITECTURES, make_model

IDS = torch.arange(3, 33).view(3, 10)
ROWS = torch.tensor([[0, 0], [2, 2], [1, 1]])
COLUMNS = torch.tensor([[3, 9], [0, 1], [4, 4]])


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gemma2", "cohere", "granite"])
@torch.inference_mode()
def test_logits_at_places_are_those_of_all_places(architecture):
    view = shared_view(make_model(architecture))
    everywhere = view(IDS).logits
    with output_at(view, ROWS, COLUMNS):
        found = view(IDS).logits
    torch.testing.assert_close(found, everywhere[ROWS, COLUMNS], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_model_is_itself_again_afterwards(model):
    view = shared_view(model)
    before = view(IDS).logits
    with pytest.raises(KeyError), output_at(view, ROWS, COLUMNS):
        raise KeyError
    assert torch.equal(view(IDS).logits, before)


@torch.inference_mode()
def test_the_base_model_and_other_views_are_left_alone(model):
    view, other = shared_view(model), shared_view(model)
    with output_at(other, ROWS, COLUMNS):  # it has been read in this way before
        other(IDS)
    with output_at(view, ROWS, COLUMNS):
        assert view(IDS).logits.shape[:2] == ROWS.shape
        assert other(IDS).logits.shape[:2] == IDS.shape
        assert model(IDS).logits.shape[:2] == IDS.shape


def test_each_thread_has_places_of_its_own(model):
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
