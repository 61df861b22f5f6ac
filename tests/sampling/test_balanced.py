"""Balanced shots; the promises that all samplers share are in ``test_contract.py``."""

from __future__ import annotations

from collections import Counter

import numpy as np
from sklearn.base import clone

from instructclf.sampling import BalancedSampler

LABELS = np.array(["b", "a", "c", "a", "a"] * 12)
TEXTS = [f"text {i}" for i in range(len(LABELS))]


def select(n_shots, random_state=0):
    return BalancedSampler().select(TEXTS, LABELS, n_shots, random_state=random_state)


def test_one_text_with_two_labels_is_two_rows():
    texts, labels = ["same", "same", "other", "same", "more"], [0, 0, 0, 1, 1]
    for seed in range(5):
        shots = BalancedSampler().select(texts, labels, 4, random_state=seed)
        assert len({(texts[i], labels[i]) for i in shots}) == 4


def test_the_remainder_goes_to_every_label_equally_often():
    favoured = Counter(Counter(LABELS[select(4, seed)]).most_common(1)[0][0] for seed in range(200))
    assert set(favoured) == {"a", "b", "c"}
    assert min(favoured.values()) > 40


def test_the_last_label_of_a_round_is_drawn_at_random():
    last = Counter(LABELS[select(6, seed)[-1]] for seed in range(200))
    assert min(last[label] for label in "abc") > 40


def test_another_seed_chooses_other_rows():
    assert set(select(16, 7)) != set(select(16, 8))


def test_all_rows_can_be_shots():
    assert sorted(select(len(TEXTS))) == list(range(len(TEXTS)))


def test_it_is_an_estimator_without_parameters():
    sampler = BalancedSampler()
    assert sampler.get_params() == {}
    assert isinstance(clone(sampler), BalancedSampler)
    assert repr(sampler) == "BalancedSampler()"
