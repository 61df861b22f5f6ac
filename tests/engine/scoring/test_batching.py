"""Batches: longest first, within a budget, every row once."""

from __future__ import annotations

import random

import numpy as np
import pytest

from instructclf.engine.scoring.batching import (
    count_computed_tokens,
    queue_batches,
    read_behind,
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


# Reading behind the queue


class Device:
    """A device with room for some padded tokens, which notes what it is asked for.

    It notices a lack of room when a batch is queued, or only when it is read.
    """

    def __init__(self, lengths, room, message="CUDA out of memory.", *, fails_late=False):
        self.lengths, self.room, self.message = lengths, room, message
        self.fails_late = fails_late
        self.done, self.events = [], []

    def __call__(self, batch):
        if not self.fails_late:
            self.check(batch)
        self.events.append(("queue", batch))

        def read():
            self.events.append(("read", batch))
            self.check(batch)
            self.done += batch
            return np.array([[self.lengths[i]] for i in batch])

        return read

    def check(self, batch):
        if len(batch) * max(self.lengths[i] for i in batch) > self.room:
            raise RuntimeError(self.message)


def read_all(lengths, budget, device, n_behind=0):
    batches = read_behind(queue_batches(lengths, budget, device), n_behind)
    return [(rows, values[:, 0].tolist()) for rows, values in batches]


def order_of(device):
    return [f"{what} {batch[0]}" for what, batch in device.events]


def test_on_a_cpu_each_batch_is_read_before_the_next_one_is_queued():
    device = Device([9, 9, 9], room=100)
    read_all([9, 9, 9], TokenBudget(9), device)
    assert order_of(device) == ["queue 0", "read 0", "queue 1", "read 1", "queue 2", "read 2"]


def test_on_a_gpu_the_next_batch_is_queued_before_one_is_read():
    device = Device([9, 9, 9], room=100)
    read_all([9, 9, 9], TokenBudget(9), device, n_behind=1)
    assert order_of(device) == ["queue 0", "queue 1", "read 0", "queue 2", "read 1", "read 2"]


# Running out of memory

BEHIND = pytest.mark.parametrize("n_behind", [0, 1])
LATE = pytest.mark.parametrize("fails_late", [False, True], ids=["queueing fails", "reading fails"])


@BEHIND
def test_with_enough_memory_the_batches_are_those_of_the_budget(n_behind):
    lengths = [3, 9, 3, 9, 3]
    results = read_all(lengths, TokenBudget(9), Device(lengths, room=100), n_behind)
    assert results == [([1], [9]), ([3], [9]), ([0, 2, 4], [3, 3, 3])]


@BEHIND
@LATE
def test_if_memory_runs_out_batches_get_smaller_and_every_row_is_done_once(n_behind, fails_late):
    lengths = [5 + i % 7 for i in range(200)]
    device = Device(lengths, room=100, fails_late=fails_late)
    budget = TokenBudget(1000)
    results = read_all(lengths, budget, device, n_behind)
    assert sorted(device.done) == list(range(200))
    assert sorted(i for batch, _ in results for i in batch) == list(range(200))
    assert all(values == [lengths[i] for i in batch] for batch, values in results)
    assert budget.n_tokens <= 125  # halved from 1000 until it fits


def test_what_fails_late_leaves_the_batch_behind_it_alone():
    lengths = [*[40] * 5, *[5] * 20]
    device = Device(lengths, room=150, fails_late=True)
    read_all(lengths, TokenBudget(200), device, n_behind=1)
    again = ["queue 0", "read 0", "queue 1", "read 1", "queue 3", "read 3"]
    assert order_of(device) == [
        "queue 0", "queue 5", "read 0", *again, "read 5",
    ]  # fmt: skip


def test_a_lowered_budget_stays_lowered():
    lengths = [10] * 50
    budget = TokenBudget(400)
    read_all(lengths, budget, Device(lengths, room=100))
    assert len(read_all(lengths, budget, Device(lengths, room=100))[0][0]) == 10


@LATE
def test_memory_too_small_for_one_row_is_an_error_with_a_remedy(fails_late):
    lengths = [50, 200, 50]
    device = Device(lengths, room=100, fails_late=fails_late)
    with pytest.raises(ScoringError, match="single text of 200 tokens. Lower max_length"):
        read_all(lengths, TokenBudget(1000), device)


@LATE
def test_any_other_error_of_the_device_is_passed_on(fails_late):
    device = Device([10, 10], 1, "CUBLAS_STATUS_EXECUTION_FAILED", fails_late=fails_late)
    with pytest.raises(RuntimeError, match="CUBLAS"):
        read_all([10, 10], TokenBudget(100), device)
