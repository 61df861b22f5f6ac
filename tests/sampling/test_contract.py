"""The promises of every sampler."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import PromptClassifier
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError, InvalidTextsError
from instructclf.sampling import (
    SAMPLERS,
    BalancedSampler,
    FacilityLocationSampler,
    KMeansSampler,
    KNNSampler,
    RandomSampler,
    UncertaintySampler,
    VoteKSampler,
    select_shots,
)

WORDS = ["fine", "awful", "phone", "book", "cable", "lamp", "quick", "slow", "cheap", "old"]
_RNG = np.random.RandomState(0)
TEXTS = [" ".join(_RNG.choice(WORDS, 4)) + f" {i}" for i in range(60)]
LABELS = np.array(["b", "a", "c", "a", "a"] * 12)

EMBEDDING = {
    "kmeans": KMeansSampler(n_clusters=3),
    "facility_location": FacilityLocationSampler(),
    "vote_k": VoteKSampler(),
    "uncertainty": UncertaintySampler(),
    "knn": KNNSampler(),
}
BALANCED = {"balanced": BalancedSampler(), **EMBEDDING, "few": VoteKSampler(n_candidates=7)}
ALL = {"random": RandomSampler(), **BALANCED}


def predict_proba(texts):
    """Be uncertain about books, and certain about everything else."""
    return np.array([[0.4, 0.3, 0.3] if "book" in text else [0.9, 0.1, 0.0] for text in texts])


def select(sampler, n_shots, random_state=0, texts=TEXTS, labels=LABELS):
    return select_shots(
        sampler, texts, labels, n_shots, random_state=random_state, predict_proba=predict_proba
    )


def each(samplers):
    return pytest.mark.parametrize("sampler", samplers.values(), ids=samplers)


@each(ALL)
@pytest.mark.parametrize("n_shots", [3, 16, 60])
def test_the_requested_number_of_different_rows_is_chosen(sampler, n_shots):
    shots = select(sampler, n_shots)
    assert shots.dtype == np.intp
    assert shots.shape == (n_shots,)
    assert len(set(shots.tolist())) == n_shots


@each(BALANCED)
def test_every_beginning_is_balanced_within_one(sampler):
    for seed in range(3):
        shots = select(sampler, 30, seed)
        for n_first in range(1, 31):
            counts = Counter(LABELS[shots[:n_first]])
            assert max(counts.values()) - min(counts[label] for label in "abc") <= 1


@each(ALL)
def test_fewer_shots_are_the_beginning_of_more(sampler):
    many = select(sampler, 30, random_state=3)
    for n_shots in (3, 4, 8, 16, 29):
        np.testing.assert_array_equal(select(sampler, n_shots, random_state=3), many[:n_shots])


@each(ALL)
def test_the_order_of_the_rows_does_not_affect_the_texts_chosen(sampler):
    expected = [TEXTS[i] for i in select(sampler, 16)]
    for seed in range(3):
        order = np.random.RandomState(seed).permutation(len(TEXTS))
        texts = [TEXTS[i] for i in order]
        chosen = [texts[i] for i in select(sampler, 16, texts=texts, labels=LABELS[order])]
        assert chosen == expected


@each(ALL)
def test_equal_rows_count_once(sampler):
    expected = [TEXTS[i] for i in select(sampler, 16)]
    texts, labels = TEXTS[::-1] + TEXTS * 2, np.concatenate([LABELS[::-1], LABELS, LABELS])
    assert [texts[i] for i in select(sampler, 16, texts=texts, labels=labels)] == expected
    match = "n_shots=61 is more than the 60 different labelled rows given"
    with pytest.raises(InvalidShotsError, match=match):
        select(sampler, 61, texts=texts, labels=labels)


@each(ALL)
def test_a_seed_fixes_the_choice_and_another_seed_changes_it(sampler):
    np.testing.assert_array_equal(select(sampler, 16, 7), select(sampler, 16, 7))
    assert select(sampler, 16, 7).tolist() != select(sampler, 16, 8).tolist()


@each(ALL)
def test_a_random_state_instance_advances(sampler):
    state = np.random.RandomState(0)
    first, second = select(sampler, 16, state), select(sampler, 16, state)
    np.testing.assert_array_equal(first, select(sampler, 16, np.random.RandomState(0)))
    assert first.tolist() != second.tolist()


@each(ALL)
def test_the_global_generator_is_left_alone(sampler):
    np.random.seed(0)
    select(sampler, 16, 0)
    after = np.random.rand()
    np.random.seed(0)
    assert after == np.random.rand()


@each(BALANCED)
def test_the_remainder_goes_to_labels_drawn_at_random(sampler):
    extra = Counter(LABELS[select(sampler, 4, seed)[-1]] for seed in range(40))
    assert set(extra) == {"a", "b", "c"}


@each(BALANCED)
def test_all_rows_of_a_rare_label_are_used(sampler):
    labels = ["rare"] * 2 + ["common"] * 20
    shots = select(sampler, 12, texts=TEXTS[:22], labels=labels)
    assert Counter(labels[i] for i in shots) == {"rare": 2, "common": 10}


@each(BALANCED)
def test_one_row_per_label_is_enough_for_one_shot_each(sampler):
    assert sorted(select(sampler, 3, texts=["x", "y", "z"], labels=[0, 1, 2])) == [0, 1, 2]


@each(ALL)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "texts",
    [
        ["", " ", "\n", "\t", "  ", "   "],
        ["!", "?", "😀", "…", "\u200b", "-"],
        [f"the same words {mark * 3}" for mark in "     "] + ["the  same words"],
    ],
    ids=["blank", "marks", "alike"],
)
def test_texts_without_words_or_differences_are_ordinary_rows(sampler, texts):
    texts = [text + " " * i for i, text in enumerate(texts)]
    shots = select(sampler, 6, texts=texts, labels=[0, 0, 0, 1, 1, 1])
    assert sorted(shots) == [0, 1, 2, 3, 4, 5]


@each(ALL)
def test_arrays_and_series_give_the_same_as_lists(sampler):
    expected = select(sampler, 16).tolist()
    assert select(sampler, 16, texts=np.array(TEXTS), labels=LABELS.tolist()).tolist() == expected
    index = range(100, 160)
    texts, labels = pd.Series(TEXTS, index=index), pd.Series(LABELS, index=index)
    assert select(sampler, 16, texts=texts, labels=labels).tolist() == expected


@each(BALANCED)
@pytest.mark.parametrize("n_shots", [0, 1, 2])
def test_fewer_shots_than_labels_are_an_error(sampler, n_shots):
    match = rf"n_shots={n_shots} is fewer than the 3 labels in y.*Set n_shots to 3 or more"
    with pytest.raises(InvalidShotsError, match=match):
        select(sampler, n_shots)


@each(ALL)
def test_a_value_that_is_not_a_text_is_an_error_with_its_position(sampler):
    with pytest.raises(InvalidTextsError, match=r"Text 1 is nan \(float\), expected a str"):
        select(sampler, 2, texts=["a", float("nan")], labels=[0, 1])
    with pytest.raises(InvalidTextsError, match=r"Got one str: wrap it, as in \[X\]"):
        select(sampler, 2, texts="ab", labels=[0, 1])


@each(ALL)
def test_texts_and_labels_of_different_lengths_are_an_error(sampler):
    with pytest.raises(InvalidLabelsError, match="60 texts in X and 59 labels in y"):
        select(sampler, 4, labels=LABELS[:59])


@each(ALL)
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_label_is_an_error_with_its_position(sampler, missing):
    labels = [*LABELS.tolist()[:59], missing]
    with pytest.raises(InvalidLabelsError, match=f"Label 59 is {missing}"):
        select(sampler, 4, labels=labels)


# Estimators


def test_every_sampler_has_a_name():
    assert {type(sampler) for sampler in ALL.values()} == set(SAMPLERS.values())


@each(ALL)
def test_a_clone_and_a_pickled_copy_choose_the_same(sampler):
    expected = select(sampler, 16).tolist()
    copy = clone(sampler)
    assert copy is not sampler
    assert repr(copy) == repr(sampler)
    assert select(copy, 16).tolist() == expected
    assert select(pickle.loads(pickle.dumps(sampler)), 16).tolist() == expected


@each(ALL)
def test_selecting_changes_no_attribute(sampler):
    copy = clone(sampler)
    before = dict(vars(copy))
    select(copy, 16)
    assert vars(copy) == before


@each(EMBEDDING)
def test_the_constructor_only_assigns(sampler):
    odd = object()
    other = type(sampler)(embedder=odd)
    assert other.embedder is odd
    with pytest.raises(InvalidParameterError, match="The 'embedder' parameter of"):
        select(other, 16)


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        (KMeansSampler(n_clusters=0), "n_clusters"),
        (KMeansSampler(n_candidates=0), "n_candidates"),
        (VoteKSampler(n_neighbors=0), "n_neighbors"),
        (VoteKSampler(discount=0.5), "discount"),
        (UncertaintySampler(uncertainty="doubt"), "uncertainty"),
        (UncertaintySampler(prefer="hard"), "prefer"),
        (KNNSampler(balanced="yes"), "balanced"),
    ],
    ids=repr,
)
def test_a_value_outside_its_domain_is_scikit_learns_error(sampler, name):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of .* must be"):
        select(sampler, 16)


@pytest.fixture
def prompting(model_folder):
    return PromptClassifier(model_folder, n_shots=4, calibration=None, random_state=0)


def test_a_grid_search_reaches_the_samplers_parameters(prompting):
    grid = {"sampler__n_clusters": [1, 3], "sampler__embedder": [None, HashingVectorizer()]}
    labels = np.where(LABELS == "a", "positive", "negative")
    search = GridSearchCV(prompting.set_params(sampler=KMeansSampler()), grid, cv=2)
    search.fit(TEXTS, labels)
    assert search.cv_results_["param_sampler__n_clusters"].tolist() == [1, 3, 1, 3]
    assert search.best_estimator_.shots_.shape == (4,)


def test_a_grid_search_compares_samplers(prompting):
    grid = {"sampler": ["random", "facility_location", VoteKSampler(n_neighbors=2)]}
    labels = np.where(LABELS == "a", "positive", "negative")
    search = GridSearchCV(prompting, grid, cv=2, error_score="raise").fit(TEXTS, labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# Embedders


@each(EMBEDDING)
@pytest.mark.parametrize(
    "embedder",
    [
        HashingVectorizer(n_features=64),
        make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0)),
    ],
    ids=["sparse", "dense"],
)
def test_any_transformer_of_texts_can_be_the_embedder(sampler, embedder):
    other = clone(sampler).set_params(embedder=embedder)
    assert select(other, 16).tolist() == select(other, 16).tolist()
    assert len(set(select(other, 16).tolist())) == 16
