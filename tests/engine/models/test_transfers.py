"""Tensors that are sent together arrive as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf.engine.models.placement import fetch, send, send_integers


def test_on_the_cpu_nothing_is_copied():
    tensors = [torch.arange(6).view(2, 3), torch.arange(4)]
    found = send(tensors, torch.device("cpu"))
    assert all(one is other for one, other in zip(found, tensors, strict=True))


def test_shapes_and_types_arrive():
    tensors = [torch.arange(6).view(2, 3), torch.arange(0), torch.arange(4).view(2, 1, 2)]
    found = send(tensors, torch.device("meta"))
    assert [tensor.shape for tensor in found] == [(2, 3), (0,), (2, 1, 2)]
    assert {(tensor.dtype, tensor.device.type) for tensor in found} == {(torch.long, "meta")}


@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], dtype=np.int32)])
def test_integers_of_any_kind_become_indices(values):
    (found,) = send_integers(torch.device("cpu"), values)
    assert torch.equal(found, torch.tensor([[1, 2], [3, 4]]))


def test_what_is_fetched_is_in_double_precision():
    found = fetch(torch.tensor([0.5, 2.0], dtype=torch.bfloat16))()
    assert found.dtype == np.float64
    assert found.tolist() == [0.5, 2.0]
