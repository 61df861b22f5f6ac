"""Indices out of range are found by the host, in every operation that takes some."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import embedding

from instructclf.engine.running.bounds import _CheckingIndices, checking_indices

VALUES = torch.zeros(3, 4)


def index(*numbers):
    return torch.tensor(numbers)


OUT_OF_RANGE = {
    "an embedding": lambda: embedding(index(3), VALUES),
    "a negative embedding": lambda: embedding(index(-1), VALUES),
    "rows": lambda: VALUES[index(0, 3)],
    "negative rows": lambda: VALUES[index(-4)],
    "columns": lambda: VALUES[:, index(4)],
    "columns after a mask": lambda: VALUES[torch.ones(3, dtype=torch.bool), index(0, 1, 4)],
    "a place to write": lambda: VALUES.clone().index_put_((index(3),), torch.ones(())),
    "a gather": lambda: VALUES.gather(1, torch.full((3, 1), 4)),
    "a selection": lambda: VALUES.index_select(0, index(3)),
    "a sum": lambda: VALUES.clone().index_add_(0, index(3), torch.ones(1, 4)),
    "a scatter": lambda: VALUES.scatter(1, torch.full((3, 1), 4), torch.ones(3, 1)),
}


@pytest.mark.parametrize("operation", OUT_OF_RANGE.values(), ids=list(OUT_OF_RANGE))
def test_an_index_out_of_range_is_an_error_of_the_host(operation):
    with _CheckingIndices(), pytest.raises(IndexError, match="An index is out of range for a dim"):
        operation()


def test_indices_in_range_change_nothing():
    values = torch.randn(3, 4)
    mask = torch.tensor([True, False, True])
    with _CheckingIndices():
        found = values[index(-3, 2)], values[:, index(3)], values[mask], embedding(index(2), values)
    expected = values[[0, 2]], values[:, 3:], values[::2], values[2:]
    assert all(map(torch.equal, found, expected))


def test_a_cpu_checks_indices_itself():
    with (
        checking_indices(torch.device("cpu")),
        pytest.raises(IndexError, match="index out of range in self"),
    ):
        embedding(index(3), VALUES)
