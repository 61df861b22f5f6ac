"""Batches: longest first, within a budget, every row once."""

from __future__ import annotations

import random

import pytest
import torch

from instructclf.engine.batching import default_budget, token_batches


@pytest.mark.parametrize("budget", [1, 7, 64, 1000])
def test_every_row_is_in_one_batch_within_the_budget(budget):
    rng = random.Random(0)
    lengths = [rng.randint(1, 60) for _ in range(100)]
    batches = list(token_batches(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(100))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget


def test_the_longest_come_first_and_equal_ones_keep_their_order():
    assert list(token_batches([3, 9, 3, 9, 1], 9)) == [[1], [3], [0, 2, 4]]


def test_a_row_beyond_the_budget_is_a_batch_of_its_own():
    assert list(token_batches([100, 1, 1], 10)) == [[0], [1, 2]]


def test_no_rows_make_no_batch():
    assert list(token_batches([], 10)) == []


def test_an_accelerator_takes_more_at_once_than_a_processor():
    assert default_budget(torch.device("cuda")) > default_budget(torch.device("cpu")) > 0
