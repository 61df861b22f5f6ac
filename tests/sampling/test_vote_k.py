"""Vote-k: votes of neighbours, discounted for each shot that they voted for."""

from __future__ import annotations

import numpy as np
import pytest

from instructclf.sampling import VoteKSampler
from instructclf.sampling.vote_k import _elect, _vote


def unit_rows(n_rows, n_columns, seed):
    rows = np.random.RandomState(seed).randn(n_rows, n_columns)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def order_slowly(embeddings, n_neighbors, discount):
    """Order the rows by the formula of the paper, one vote at a time."""
    n_rows = len(embeddings)
    votes_for = {}
    for voter in range(n_rows):
        others = [row for row in range(n_rows) if row != voter]
        others.sort(key=lambda row: -float(embeddings[voter] @ embeddings[row]))
        votes_for[voter] = set(others[:n_neighbors])
    chosen = []
    while len(chosen) < n_rows:
        scores = {}
        for row in range(n_rows):
            if row not in chosen:
                voters = [v for v in range(n_rows) if row in votes_for[v] and v not in chosen]
                scores[row] = sum(discount ** -len(votes_for[v] & set(chosen)) for v in voters)
        chosen.append(max(scores, key=lambda row: (round(scores[row], 9), -row)))
    return chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n_neighbors", "discount"), [(1, 10), (3, 10), (7, 2), (29, 10)])
def test_the_order_equals_that_of_counting_votes_one_by_one(seed, n_neighbors, discount):
    embeddings = unit_rows(30, 4, seed)
    order = list(_elect(_vote(embeddings, n_neighbors), discount))
    assert order[:15] == order_slowly(embeddings, n_neighbors, discount)[:15]
    assert sorted(order) == list(range(30))


def test_no_row_votes_for_itself_even_if_rows_are_equal():
    votes = _vote(np.repeat(unit_rows(2, 3, seed=0), 5, axis=0), 4)
    assert not (votes == np.arange(10)[:, None]).any()


def test_the_second_shot_comes_from_rows_that_have_not_voted_for_a_shot():
    votes = np.array([[1, 2], [0, 2], [0, 1], [0, 1], [5, 6], [4, 6], [4, 5]])
    order = list(_elect(votes, 10.0))
    assert order[0] in {0, 1}
    assert order[1] in {4, 5, 6}


def test_a_twentieth_of_the_rows_are_neighbours_and_at_least_5(monkeypatch):
    counts = []
    monkeypatch.setattr(
        "instructclf.sampling.vote_k._vote",
        lambda embeddings, n: counts.append(n) or _vote(embeddings, n),
    )
    for n_rows in (3, 60, 300):
        VoteKSampler()._order(unit_rows(n_rows, 4, seed=0), np.random.RandomState(0))
    assert counts == [2, 5, 15]
