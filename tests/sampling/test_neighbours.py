"""Nearest neighbours: different shots for each text."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import FunctionTransformer

from instructclf.exceptions import InvalidShotsError, InvalidTextsError
from instructclf.sampling import KNNSampler

_RNG = np.random.RandomState(0)
ANGLES = _RNG.choice(3600, 60, replace=False) / 10
TEXTS = [f"{angle} x" for angle in ANGLES]
LABELS = np.array(["b", "a", "c", "a", "a"] * 12)
QUERIES = [f"{angle} query" for angle in _RNG.choice(3600, 20, replace=False) / 10 + 0.05]


def directions(texts):
    radians = np.radians([float(text.split()[0]) for text in texts])
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def make(*, balanced=True, texts=TEXTS, labels=LABELS, random_state=0):
    sampler = KNNSampler(balanced=balanced, embedder=FunctionTransformer(directions))
    return sampler.fit(texts, labels, random_state=random_state)


def cosine(text, other):
    return float(directions([text])[0] @ directions([other])[0])


def nearest_slowly(query, rows):
    return sorted(rows, key=lambda row: -cosine(query, TEXTS[row]))


def choose_slowly(query, n_rounds):
    """Return whole rounds: the nearest row of every label last, the most similar at the end."""
    rows = {label: [i for i, other in enumerate(LABELS) if other == label] for label in "abc"}
    queues = [nearest_slowly(query, members) for members in rows.values()]
    shots = []
    for position in range(n_rounds):
        one = sorted(
            (queue[position] for queue in queues), key=lambda row: cosine(query, TEXTS[row])
        )
        shots = one + shots
    return shots


@pytest.mark.parametrize("n_rounds", [1, 2, 5, 12])
def test_shots_are_the_nearest_of_every_label_the_most_similar_last(n_rounds):
    chosen = make().select_for(QUERIES, 3 * n_rounds)
    assert len(chosen) == len(QUERIES)
    for query, shots in zip(QUERIES, chosen, strict=True):
        assert shots.tolist() == choose_slowly(query, n_rounds)
        assert shots[-1] == nearest_slowly(query, range(60))[0]


@pytest.mark.parametrize("n_shots", [1, 4, 16])
def test_unbalanced_shots_are_the_nearest_rows_of_any_label(n_shots):
    for query, shots in zip(
        QUERIES, make(balanced=False).select_for(QUERIES, n_shots), strict=True
    ):
        assert shots.tolist() == nearest_slowly(query, range(60))[:n_shots][::-1]


@pytest.mark.parametrize("n_shots", [3, 4, 5, 16])
def test_labels_are_balanced_within_one(n_shots):
    for shots in make().select_for(QUERIES, n_shots):
        counts = Counter(LABELS[shots])
        assert len(set(shots.tolist())) == n_shots
        assert max(counts.values()) - min(counts[label] for label in "abc") <= 1


def test_the_remainder_goes_to_labels_drawn_at_random_for_each_text():
    queries = [f"{i}" for i in range(300)]
    extra = Counter(
        Counter(LABELS[shots]).most_common(1)[0][0] for shots in make().select_for(queries, 4)
    )
    assert min(extra[label] for label in "abc") > 70


def test_fewer_shots_are_among_more():
    sampler = make()
    for fewer, more in [(3, 4), (4, 5), (8, 16), (16, 30)]:
        pairs = zip(
            sampler.select_for(QUERIES, fewer), sampler.select_for(QUERIES, more), strict=True
        )
        assert all(set(few) <= set(many) for few, many in pairs)


def test_whole_rounds_are_the_end_of_more():
    for few, many in zip(
        make().select_for(QUERIES, 6), make().select_for(QUERIES, 15), strict=True
    ):
        np.testing.assert_array_equal(few, many[-6:])


def test_the_shots_of_a_text_do_not_depend_on_the_other_texts():
    sampler = make()
    together = sampler.select_for(QUERIES * 30, 7)  # several batches
    for position, shots in enumerate(together):
        np.testing.assert_array_equal(shots, together[position % len(QUERIES)])
    for query, shots in zip(QUERIES, together[: len(QUERIES)], strict=True):
        np.testing.assert_array_equal(sampler.select_for([query], 7)[0], shots)


def test_noise_of_an_encoder_does_not_decide_between_equally_similar_rows():
    def wobble(texts):  # like an encoder whose last digits depend on the batch
        noise = 1e-9 if len(texts) % 2 else -1e-9
        return directions([f"{float(text.split()[0]) + noise} x" for text in texts])

    sampler = KNNSampler(balanced=False, embedder=FunctionTransformer(wobble))
    sampler.fit(["5 x", "15 x", "25 x"], [0, 1, 0], random_state=0)
    (alone,), (together, _) = sampler.select_for(["10 q"], 1), sampler.select_for(["10 q"] * 2, 1)
    np.testing.assert_array_equal(alone, together)


def test_the_order_of_the_rows_does_not_affect_the_texts_chosen():
    order = np.random.RandomState(1).permutation(60)
    texts = [TEXTS[i] for i in order]
    other = make(texts=texts, labels=LABELS[order]).select_for(QUERIES, 7)
    for shots, others in zip(make().select_for(QUERIES, 7), other, strict=True):
        assert [TEXTS[i] for i in shots] == [texts[i] for i in others]


def test_equal_rows_count_once():
    sampler = make(texts=TEXTS * 2, labels=np.tile(LABELS, 2))
    assert sampler.n_rows_ == 60
    for shots in sampler.select_for(QUERIES, 16):
        assert len({int(i) % 60 for i in shots}) == 16


def test_a_text_among_the_rows_is_its_nearest_row_unless_left_out():
    sampler = make()
    with_own = sampler.select_for(TEXTS, 6)
    assert [shots[-1] for shots in with_own] == list(range(60))
    without = sampler.select_for(TEXTS, 6, leave_out=True)
    assert all(i not in shots for i, shots in enumerate(without))
    assert {len(shots) for shots in without} == {6}


def test_a_text_with_two_labels_is_left_out_of_both():
    texts = ["10 x", "10 x", "20 x", "30 x"]
    sampler = make(texts=texts, labels=[0, 1, 0, 1])
    assert set(sampler.select_for(["10 x"], 2, leave_out=True)[0]) == {2, 3}


def test_shots_are_fewer_only_if_leaving_out_leaves_too_few_rows():
    sampler = make(texts=TEXTS[:4], labels=[0, 1, 0, 1])
    of_a_row, of_a_new_text = sampler.select_for([TEXTS[0], "5 x"], 4, leave_out=True)
    assert set(of_a_row) == {1, 2, 3}
    assert set(of_a_new_text) == {0, 1, 2, 3}


def test_all_rows_of_a_rare_label_are_used():
    labels = np.array(["rare"] * 2 + ["common"] * 58)
    for shots in make(labels=labels).select_for(QUERIES, 12):
        assert Counter(labels[shots]) == {"rare": 2, "common": 10}


def test_texts_without_similar_rows_have_shots_too():
    sampler = KNNSampler().fit(["good phone", "bad phone", "good", "bad"], [1, 0, 1, 0])
    (shots,) = sampler.select_for(["zzz \u200b"], 2)
    assert len(shots) == 2


def test_no_texts_have_no_shots():
    assert make().select_for([], 3) == []


def test_a_pickled_copy_chooses_the_same():
    sampler = KNNSampler().fit(TEXTS, LABELS, random_state=0)
    copy = pickle.loads(pickle.dumps(sampler))
    np.testing.assert_array_equal(sampler.select_for(QUERIES, 7), copy.select_for(QUERIES, 7))


def test_select_takes_the_rows_closest_to_the_mean_of_their_label():
    texts = [f"{angle} {label}" for label in "xy" for angle in (0, 40, 50, 60, 100)]
    sampler = KNNSampler(embedder=FunctionTransformer(directions))
    shots = sampler.select(texts, ["x"] * 5 + ["y"] * 5, 2, random_state=0)
    assert {texts[i] for i in shots} == {"50 x", "50 y"}


# Errors


def test_select_for_before_fit_is_scikit_learns_error():
    with pytest.raises(NotFittedError, match="This KNNSampler instance is not fitted yet"):
        KNNSampler().select_for(QUERIES, 3)


def test_fewer_shots_than_labels_are_an_error_with_two_remedies():
    match = r"n_shots=2 is fewer than the 3 labels.*3 or more, or give KNNSampler\(balanced=False\)"
    with pytest.raises(InvalidShotsError, match=match):
        make().select_for(QUERIES, 2)


def test_more_shots_than_rows_are_an_error_with_the_number_of_rows():
    with pytest.raises(InvalidShotsError, match="n_shots=61 is more than the 60 different"):
        make().select_for(QUERIES, 61)


def test_a_single_string_is_an_error():
    with pytest.raises(InvalidTextsError, match="Got one str"):
        make().select_for("10 x", 3)
