"""The texts to label next are uncertain, unlike each other, and new."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import PromptClassifier
from instructclf.exceptions import InvalidShotsError, InvalidTextsError
from instructclf.sampling import suggest_rows
from instructclf.sampling.embedding import TextEmbedding

TOPICS = ["the phone rings", "a book to read", "lamp and light", "cable for power"]
TEXTS = [f"{topic} {word}" for topic in TOPICS for word in ("one", "two", "three", "four")]


class Unsure:
    """A classifier that is uncertain about some topics, and remembers what it was asked."""

    def __init__(self, *topics):
        self.topics, self.asked = topics, []

    def predict_proba(self, texts):
        self.asked.append(list(texts))
        return np.array([self._find(text) for text in texts])

    def _find(self, text):
        return [0.5, 0.5, 0] if any(topic in text for topic in self.topics) else [1, 0, 0]


def suggest(classifier, n_rows, texts=TEXTS, **options):
    """Return the suggested texts."""
    found = suggest_rows(classifier, texts, n_rows, **({"random_state": 0} | options))
    assert found.dtype == np.intp
    assert found.shape == (n_rows,)
    return [texts[i] for i in found]


def suggest_slowly(classifier, n_rows, texts, labelled, seed):
    """Compute the whole sum for every text, from embeddings that do not depend on an order."""
    everything = sorted(set(texts) - set(labelled))
    rows = TextEmbedding(None, 0).fit_transform(everything + labelled)
    similarity = rows[: len(everything)] @ rows.T
    two = np.sort(classifier.predict_proba(everything), axis=1)[:, -2:]
    weights = 1 - (two[:, 1] - two[:, 0])
    chosen = [*range(len(everything), len(rows))]
    for _ in range(n_rows):
        sums = [weights @ similarity[:, [*chosen, i]].max(axis=1) for i in range(len(everything))]
        chosen.append(int(np.argmax(sums)))
    return [everything[i] for i in chosen[len(labelled) :]]


def test_only_topics_of_which_the_classifier_is_unsure_are_suggested_and_each_of_them():
    found = suggest(Unsure("book", "lamp"), 2)
    assert {text.split()[1] for text in found} == {"book", "and"}


def test_a_topic_that_is_labelled_comes_last():
    found = suggest(Unsure("book", "lamp", "cable"), 3, labelled=["a book to read five"])
    assert [("book" in text) for text in found] == [False, False, True]


def test_the_choice_raises_the_weighted_coverage_most():
    rng = np.random.RandomState(0)
    words = np.array(["fine", "awful", "phone", "book", "cable", "lamp", "quick", "slow", "old"])
    texts = [" ".join(rng.choice(words, 5)) for _ in range(60)]
    labelled, labels = texts[:8], [0, 1] * 4
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(labelled, labels)
    expected = suggest_slowly(classifier, 10, texts, labelled, 0)
    assert suggest(classifier, 10, texts, labelled=labelled) == expected


def test_neither_labelled_texts_nor_duplicates_are_suggested():
    texts = TEXTS * 2 + TEXTS[::-1]
    found = suggest(Unsure("book"), 12, texts, labelled=TEXTS[:4])
    assert sorted(found) == sorted(TEXTS[4:])


def test_fewer_rows_are_the_beginning_of_more():
    assert suggest(Unsure("book", "phone"), 3) == suggest(Unsure("book", "phone"), 9)[:3]


def test_a_seed_fixes_the_choice_whatever_the_order_of_the_texts():
    options = {"n_candidates": 6, "labelled": ["a book"]}
    found = {seed: suggest(Unsure("b"), 3, random_state=seed, **options) for seed in range(4)}
    for seed, expected in found.items():
        assert suggest(Unsure("b"), 3, TEXTS[::-1], random_state=seed, **options) == expected
    assert len({*map(tuple, found.values())}) > 1


def test_the_classifier_predicts_the_candidates_once():
    classifier = Unsure("book")
    suggest(classifier, 3, n_candidates=5)
    assert [len(texts) for texts in classifier.asked] == [5]
    suggest(classifier, 7, n_candidates=5)
    assert len(classifier.asked[1]) == 7


def test_a_certain_classifier_still_gets_different_texts():
    assert len({text.split()[1] for text in suggest(Unsure(), 4)}) == 4


def test_a_classifier_of_this_package_gets_suggestions(model_folder):
    labelled, labels = TEXTS[:4], ["good", "bad"] * 2
    classifier = PromptClassifier(model_folder, n_shots=2, random_state=0).fit(labelled, labels)
    assert not set(suggest(classifier, 3, labelled=labelled)) & set(labelled)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"n_rows": 13}, InvalidShotsError, "n_rows=13 is more than the 12 different texts in X"),
        ({"n_rows": 0}, InvalidParameterError, "'n_rows' parameter of suggest_rows must be an int"),
        ({"X": "a text"}, InvalidTextsError, "X must be a sequence of texts. Got one str"),
        ({"labelled": [1]}, InvalidTextsError, "Text 0 of labelled is 1"),
        ({"classifier": LinearSVC()}, InvalidParameterError, "implementing 'predict_proba'.*SVC"),
        ({"n_candidates": 0}, InvalidParameterError, "'n_candidates' parameter of suggest_rows"),
        ({"classifier": PromptClassifier()}, NotFittedError, "not fitted"),
    ],
)
def test_bad_input_is_an_error_that_names_it(changes, error, match):
    given = {"classifier": Unsure(), "X": TEXTS, "n_rows": 2, "labelled": TEXTS[:4], **changes}
    with pytest.raises(error, match=match):
        suggest_rows(given.pop("classifier"), given.pop("X"), given.pop("n_rows"), **given)
