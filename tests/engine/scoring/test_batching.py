"""Batches: longest first, within a budget, every row once."""

from __future__ import annotations

import random

import pytest

from instructclf.engine.scoring.batching import (
    count_computed_tokens,
    run_in_batches,
    token_batches,
)
from instructclf.engine.scoring.budgets import TokenBudget
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import build_trie
from instructclf.exceptions import ScoringError

# The cost of prompts

ONE_TOKEN = EncodedPrompt([5, 6], build_trie([[1], [2]], 9), prefix=[3, 4])
BRANCHES = EncodedPrompt([5], build_trie([[1, 2, 3], [1, 4, 5], [6, 7], [8]], 9), prefix=[3, 4])


@pytest.mark.parametrize(("n_shared", "expected"), [(0, [4, 3 + 4]), (2, [2, 1 + 4])])
def test_the_nodes_of_a_trie_are_computed_after_one_copy_of_the_text(n_shared, expected):
    found = count_computed_tokens([ONE_TOKEN, BRANCHES], n_shared, repeats_text=False)
    assert found == expected


@pytest.mark.parametrize(("n_shared", "expected"), [(0, [4, 3 * 3]), (2, [2, 3 * 1])])
def test_full_prompts_repeat_the_text_for_each_path_of_the_trie(n_shared, expected):
    found = count_computed_tokens([ONE_TOKEN, BRANCHES], n_shared, repeats_text=True)
    assert found == expected


# Batches


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
    assert list(token_batches([3, 9, 3, 9, 3], 9)) == [[1], [3], [0, 2, 4]]


def price(batches, lengths, budget):
    """Padded tokens, and a sixteenth of the budget for each batch."""
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return padded + len(batches) * budget / 16


def all_partitions(rows):
    if not rows:
        yield []
    for n_first in range(1, len(rows) + 1):
        for rest in all_partitions(rows[n_first:]):
            yield [rows[:n_first], *rest]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [20, 60, 200])
def test_no_other_partition_of_the_sorted_rows_costs_less(budget, seed):
    rng = random.Random(seed)
    lengths = [rng.randint(1, 40) for _ in range(9)]
    order = sorted(range(9), key=lambda i: (-lengths[i], i))
    allowed = (
        batches
        for batches in all_partitions(order)
        if all(len(b) == 1 or len(b) * lengths[b[0]] <= budget for b in batches)
    )
    least = min(price(batches, lengths, budget) for batches in allowed)
    assert price(list(token_batches(lengths, budget)), lengths, budget) == pytest.approx(least)


def test_a_row_beyond_the_budget_is_a_batch_of_its_own():
    assert list(token_batches([100, 1, 1], 10)) == [[0], [1, 2]]


def test_no_rows_make_no_batch():
    assert list(token_batches([], 10)) == []


# Running out of memory


class Device:
    """A device with room for some padded tokens, which remembers the rows it has processed."""

    def __init__(self, lengths, room, message="CUDA out of memory."):
        self.lengths, self.room, self.message = lengths, room, message
        self.done = []

    def __call__(self, batch):
        if len(batch) * max(self.lengths[i] for i in batch) > self.room:
            raise RuntimeError(self.message)
        self.done += batch
        return [self.lengths[i] for i in batch]


def test_with_enough_memory_the_batches_are_those_of_the_budget():
    lengths = [3, 9, 3, 9, 3]
    device = Device(lengths, room=100)
    results = list(run_in_batches(lengths, TokenBudget(9), device))
    assert results == [([1], [9]), ([3], [9]), ([0, 2, 4], [3, 3, 3])]


def test_if_memory_runs_out_batches_get_smaller_and_every_row_is_done_once():
    lengths = [5 + i % 7 for i in range(200)]
    device = Device(lengths, room=100)
    budget = TokenBudget(1000)
    results = list(run_in_batches(lengths, budget, device))
    assert sorted(device.done) == list(range(200))
    assert sorted(i for batch, _ in results for i in batch) == list(range(200))
    assert budget.n_tokens <= 125  # halved from 1000 until it fits


def test_a_lowered_budget_stays_lowered():
    lengths = [10] * 50
    budget = TokenBudget(400)
    list(run_in_batches(lengths, budget, Device(lengths, room=100)))
    assert len(next(run_in_batches(lengths, budget, Device(lengths, room=100)))[0]) == 10


def test_memory_too_small_for_one_row_is_an_error_with_a_remedy():
    lengths = [50, 200, 50]
    with pytest.raises(ScoringError, match="single text of 200 tokens. Lower max_length"):
        list(run_in_batches(lengths, TokenBudget(1000), Device(lengths, room=100)))


def test_any_other_error_of_the_device_is_passed_on():
    device = Device([10, 10], room=1, message="CUBLAS_STATUS_EXECUTION_FAILED")
    with pytest.raises(RuntimeError, match="CUBLAS"):
        list(run_in_batches([10, 10], TokenBudget(100), device))
