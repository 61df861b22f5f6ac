"""Balanced shots: in any beginning, from any order of rows, whatever the remainder."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.base import clone

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling import BalancedSampler

LABELS = np.array(["b", "a", "c", "a", "a"] * 12)
TEXTS = [f"text {i}" for i in range(len(LABELS))]


def select(n_shots, random_state=0, texts=TEXTS, labels=LABELS):
    return BalancedSampler().select(texts, labels, n_shots, random_state=random_state)


@pytest.mark.parametrize("n_shots", [3, 4, 5, 6, 16, 30])
def test_every_beginning_is_balanced_within_one(n_shots):
    for seed in range(5):
        shots = select(n_shots, seed)
        assert len(shots) == n_shots
        for n_first in range(1, n_shots + 1):
            counts = Counter(LABELS[shots[:n_first]])
            assert max(counts.values()) - min(counts[label] for label in "abc") <= 1


def test_shots_are_different_rows():
    assert len(set(select(30))) == 30


def test_fewer_shots_are_the_beginning_of_more():
    many = select(30, random_state=3)
    for n_shots in range(3, 30):
        np.testing.assert_array_equal(select(n_shots, random_state=3), many[:n_shots])


def test_a_label_with_few_rows_gives_all_it_has():
    labels = ["rare"] * 2 + ["common"] * 20
    shots = select(12, texts=TEXTS[:22], labels=labels)
    assert Counter(labels[i] for i in shots) == {"rare": 2, "common": 10}


def test_the_order_of_the_rows_makes_no_difference_to_the_texts_chosen():
    rng = np.random.RandomState(0)
    expected = [TEXTS[i] for i in select(16)]
    for _ in range(5):
        order = rng.permutation(len(TEXTS))
        texts = [TEXTS[i] for i in order]
        chosen = [texts[i] for i in select(16, texts=texts, labels=LABELS[order])]
        assert chosen == expected


def test_equal_rows_count_once():
    texts = ["same", "same", "other", "same", "more"]
    labels = [0, 0, 0, 1, 1]
    for seed in range(5):
        shots = select(4, seed, texts, labels)
        assert len({(texts[i], labels[i]) for i in shots}) == 4
    with pytest.raises(InvalidShotsError, match="n_shots=5 is more than the 4 different labelled"):
        select(5, texts=texts, labels=labels)


def test_the_remainder_goes_to_labels_drawn_at_random():
    favoured = Counter(Counter(LABELS[select(4, seed)]).most_common(1)[0][0] for seed in range(200))
    assert set(favoured) == {"a", "b", "c"}
    assert min(favoured.values()) > 40


def test_the_last_label_of_a_round_is_drawn_at_random():
    last = Counter(LABELS[select(6, seed)[-1]] for seed in range(200))
    assert min(last[label] for label in "abc") > 40


def test_one_seed_gives_one_choice_and_another_seed_another():
    np.testing.assert_array_equal(select(16, 7), select(16, 7))
    assert set(select(16, 7)) != set(select(16, 8))


def test_a_random_state_goes_on_where_it_stands():
    state = np.random.RandomState(0)
    first, second = select(16, state), select(16, state)
    np.testing.assert_array_equal(first, select(16, np.random.RandomState(0)))
    assert first.tolist() != second.tolist()


def test_the_global_generator_is_left_alone():
    np.random.seed(0)
    select(16, 0)
    after = np.random.rand()
    np.random.seed(0)
    assert after == np.random.rand()


def test_more_shots_than_rows_are_an_error_that_says_how_many_there_are():
    match = r"n_shots=61 is more than the 60 different labelled rows given\. Set n_shots to 60 or"
    with pytest.raises(InvalidShotsError, match=match):
        select(61)


@pytest.mark.parametrize("n_shots", [0, 1, 2])
def test_fewer_shots_than_labels_are_an_error_that_says_so(n_shots):
    match = rf"n_shots={n_shots} is fewer than the 3 labels in y.*Set n_shots to 3 or more\."
    with pytest.raises(InvalidShotsError, match=match):
        select(n_shots)


def test_all_rows_can_be_shots():
    assert sorted(select(len(TEXTS))) == list(range(len(TEXTS)))


def test_it_is_an_estimator_without_parameters():
    sampler = BalancedSampler()
    assert sampler.get_params() == {}
    assert isinstance(clone(sampler), BalancedSampler)
    assert repr(sampler) == "BalancedSampler()"
