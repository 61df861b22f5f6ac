"""Facility location: the lazy order equals the greedy one, and covers well."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from instructclf.sampling import FacilityLocationSampler
from instructclf.sampling.facility_location import cover_greedily


def unit_rows(n_rows, n_columns, seed):
    rows = np.random.RandomState(seed).randn(n_rows, n_columns)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def coverage(similarity, weights, chosen):
    """Return the objective, straight from its definition."""
    return sum(
        weight * max(similarity[row][other] for other in chosen)
        for row, weight in enumerate(weights)
    )


def cover_slowly(embeddings, weights, others=()):
    """Yield the greedy order by computing the whole objective for every candidate."""
    everything = np.vstack([embeddings, *others])
    similarity, chosen = everything @ everything.T, [*range(len(embeddings), len(everything))]
    while len(chosen) < len(everything):
        left = [row for row in range(len(embeddings)) if row not in chosen]
        best = max(left, key=lambda row: coverage(similarity, weights, [*chosen, row]))
        chosen.append(best)
        yield best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_columns", [2, 8])
def test_the_lazy_order_is_the_greedy_order(seed, n_columns):
    embeddings = unit_rows(25, n_columns, seed)
    weights = np.random.RandomState(seed).rand(25)
    lazy, slow = cover_greedily(embeddings, weights), cover_slowly(embeddings, weights)
    # The last few rows gain almost nothing, so rounding would decide among them.
    assert [next(lazy) for _ in range(12)] == [next(slow) for _ in range(12)]


@pytest.mark.parametrize("seed", range(5))
def test_what_others_cover_is_not_covered_again(seed):
    embeddings, others = unit_rows(25, 8, seed), unit_rows(4, 8, seed + 100)
    weights = np.random.RandomState(seed).rand(25)
    lazy = cover_greedily(embeddings, weights, others)
    slow = cover_slowly(embeddings, weights, others)
    found = [next(lazy) for _ in range(12)]
    assert found == [next(slow) for _ in range(12)]
    without = cover_greedily(embeddings, weights)
    assert found != [next(without) for _ in range(12)]


def test_every_row_comes_once():
    embeddings = unit_rows(40, 3, seed=0)
    embeddings[5:9] = 0
    embeddings[20:30] = embeddings[10:20]
    assert sorted(cover_greedily(embeddings, np.ones(40))) == list(range(40))


def test_it_is_within_the_bound_of_the_best_choice():
    embeddings = unit_rows(12, 3, seed=1)
    similarity, weights = embeddings @ embeddings.T + 1, np.ones(12)  # 0 or more, for the bound
    order = cover_greedily(embeddings, weights)
    greedy = coverage(similarity, weights, [next(order) for _ in range(3)])
    best = max(coverage(similarity, weights, chosen) for chosen in combinations(range(12), 3))
    assert (1 - 1 / np.e) * best <= greedy <= best


def test_rows_with_more_weight_are_covered_first():
    embeddings = np.eye(4)
    order = list(cover_greedily(embeddings, np.array([0.1, 3.0, 0.2, 1.0])))
    assert order == [1, 3, 2, 0]


def test_few_evaluations_are_enough(monkeypatch):
    embeddings = np.repeat(unit_rows(20, 16, seed=2), 25, axis=0) + unit_rows(500, 16, seed=3) / 2
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    looked_at = []

    class Counting(np.ndarray):
        def __getitem__(self, index):
            looked_at.append(index)
            return np.asarray(self)[index]

    order = cover_greedily(embeddings.view(Counting), np.ones(500))
    for _ in range(8):
        next(order)
    assert len(looked_at) < 500 * 8 / 2


def test_shots_of_a_label_cover_its_topics():
    topics = ["the phone rings", "a book to read", "lamp and light", "cable for power"]
    texts = [f"{topic} {word}" for topic in topics for word in ("one", "two", "three")]
    texts += [f"{text} other" for text in texts]
    labels = [0] * 12 + [1] * 12
    shots = FacilityLocationSampler().select(texts, labels, 8, random_state=0)
    for label in (0, 1):
        assert sorted(i % 12 // 3 for i in shots if labels[i] == label) == [0, 1, 2, 3]


def test_fewer_candidates_let_seeds_choose_other_rows():
    texts, labels = [f"text number {i}" for i in range(40)], [0, 1] * 20
    chosen = {
        frozenset(FacilityLocationSampler(n_candidates=n).select(texts, labels, 4, random_state=s))
        for n in (5,)
        for s in range(5)
    }
    assert len(chosen) == 5
