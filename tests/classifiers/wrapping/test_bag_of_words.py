"""The linear classifier on words: its probabilities, how it chooses C, what it refuses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import BagOfWordsClassifier, load
from instructclf.datasets import load_reviews
from instructclf.exceptions import InvalidLabelsError, InvalidTextsError, SavedClassifierError
from tests.classifiers.test_sklearn_contract import DATA_FREE_CHECKS

REVIEWS = load_reviews("train")
TEXTS, LABELS = REVIEWS.texts[:120], np.asarray(REVIEWS.labels)[:120]
UNSEEN = ["A waste of money.", "", "I love it, and it works.", "word"]
SUBJECTS = ["a good goal", "the team won", "rain and wind", "a cold wind", "bread and wine"] * 3
TOPICS = np.array(["sport", "sport", "weather", "weather", "food"] * 3)
TASKS = {"two labels": (TEXTS, LABELS), "three labels": (SUBJECTS, TOPICS)}


def slow_twin(C):
    """Return the same classifier, from parts of scikit-learn."""
    regression = LogisticRegression(C=C, solver="liblinear", max_iter=1000)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    return make_pipeline(vectorizer, OneVsRestClassifier(regression))


@pytest.mark.parametrize(("texts", "labels"), TASKS.values(), ids=TASKS)
def test_probabilities_are_those_of_one_regression_a_label(texts, labels):
    fitted = BagOfWordsClassifier(C=7.0).fit(texts, labels)
    twin = slow_twin(7.0).fit(texts, labels)
    assert_array_equal(fitted.classes_, twin.classes_)
    assert_allclose(fitted.predict_proba(UNSEEN), twin.predict_proba(UNSEEN), rtol=1e-6)
    assert_allclose(fitted.predict_log_proba(UNSEEN), np.log(twin.predict_proba(UNSEEN)), rtol=1e-6)
    assert_array_equal(fitted.predict(UNSEEN), twin.predict(UNSEEN))


def test_the_chosen_strength_has_the_lowest_log_loss_on_rows_held_out():
    splitter = StratifiedKFold(4, shuffle=True, random_state=0)
    fitted = BagOfWordsClassifier(random_state=0).fit(TEXTS, LABELS)
    losses = {}
    counts = fitted.vectorizer_.transform(TEXTS)  # words are counted once, not in each fold
    codes = (LABELS == "positive").astype(int)
    for C in (1.0, 10.0, 30.0, 100.0):
        regression = LogisticRegression(C=C, solver="liblinear", max_iter=1000)
        said = cross_val_predict(regression, counts, codes, cv=splitter, method="predict_log_proba")
        losses[C] = -said[np.arange(len(codes)), codes].mean()
    assert min(losses, key=losses.get) == fitted.C_


def test_clear_rows_are_regularised_less_than_noisy_ones():
    words = np.repeat(["good", "bad"], 30)
    noise = np.random.default_rng(0).permutation(words)
    clear = BagOfWordsClassifier(random_state=0).fit(words.tolist(), words)
    noisy = BagOfWordsClassifier(random_state=0).fit(words.tolist(), noise)
    assert (clear.C_, noisy.C_) == (100, 1)


def test_a_label_with_a_single_row_leaves_nothing_to_choose_by():
    assert BagOfWordsClassifier().fit(["good", "bad", "poor"], ["yes", "no", "no"]).C_ == 10


def test_a_line_says_what_was_chosen(capsys):
    fitted = BagOfWordsClassifier(random_state=0, verbose=1).fit(TEXTS, LABELS)
    assert (
        f"C={fitted.C_:g} has the lowest log loss on held-out rows, 0." in capsys.readouterr().err
    )


def test_weights_count_as_repetitions():
    n_times = np.random.default_rng(0).integers(0, 3, size=len(TEXTS))
    weighted = BagOfWordsClassifier(C=5.0).fit(TEXTS, LABELS, n_times)
    kept = np.flatnonzero(n_times)
    same_words = BagOfWordsClassifier(C=5.0).fit([TEXTS[i] for i in kept], LABELS[kept])
    assert weighted.vectorizer_.vocabulary_ == same_words.vectorizer_.vocabulary_
    counts = weighted.vectorizer_.transform(TEXTS)
    twin = LogisticRegression(C=5.0, solver="liblinear", max_iter=1000, tol=1e-8)
    twin.fit(counts[np.repeat(np.arange(len(TEXTS)), n_times)], np.repeat(LABELS, n_times))
    assert_allclose(weighted.coef_, twin.coef_, atol=1e-2)


def test_pairs_of_words_are_left_out_on_request():
    single = BagOfWordsClassifier(ngram_range=(1, 1)).fit(TEXTS, LABELS)
    assert not any(" " in word for word in single.vectorizer_.vocabulary_)


# Saving


@pytest.mark.parametrize(("texts", "labels"), TASKS.values(), ids=TASKS)
def test_a_saved_classifier_predicts_the_same(texts, labels, tmp_path):
    fitted = BagOfWordsClassifier(random_state=0, ngram_range=(1, 3)).fit(texts, labels)
    fitted.save(tmp_path / "words", scores={"accuracy": 0.5})
    loaded = load(tmp_path / "words")
    assert repr(loaded) == repr(fitted)
    assert loaded.C_ == fitted.C_
    assert_array_equal(loaded.classes_, fitted.classes_)
    assert_array_equal(loaded.predict_log_proba(UNSEEN), fitted.predict_log_proba(UNSEEN))
    assert {path.suffix for path in (tmp_path / "words").iterdir()} == {
        ".json",
        ".md",
        ".safetensors",
    }
    card = (tmp_path / "words/README.md").read_text()
    assert "`BagOfWordsClassifier`" in card
    assert "| accuracy | 0.5000 |" in card


def test_a_loaded_classifier_is_saved_and_fitted_again(tmp_path):
    fitted = BagOfWordsClassifier(random_state=0).fit(TEXTS, LABELS)
    fitted.save(tmp_path / "one")
    load(tmp_path / "one").save(tmp_path / "two")
    again = load(tmp_path / "two", random_state=1)
    assert again.random_state == 1
    assert_array_equal(again.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))
    again.fit(TEXTS, LABELS)


def test_a_changed_word_is_an_error(tmp_path):
    BagOfWordsClassifier().fit(TEXTS, LABELS).save(tmp_path / "words")
    path = tmp_path / "words/words.json"
    path.write_text(path.read_text().replace("money", "honey"))
    with pytest.raises(SavedClassifierError, match=r"words\.json is not the file that was saved"):
        load(tmp_path / "words")


def test_an_unknown_parameter_is_an_error_of_loading(tmp_path):
    BagOfWordsClassifier().fit(TEXTS, LABELS).save(tmp_path / "words")
    with pytest.raises(SavedClassifierError, match="has no parameter 'model'"):
        load(tmp_path / "words", model="bundled")


# scikit-learn


@pytest.mark.parametrize("check", DATA_FREE_CHECKS)
def test_scikit_learn_checks(check):
    getattr(estimator_checks, check)("BagOfWordsClassifier", BagOfWordsClassifier())


def test_it_is_cloned_pickled_and_searched():
    fitted = BagOfWordsClassifier(random_state=0).fit(TEXTS, LABELS)
    assert is_classifier(fitted)
    assert clone(fitted).get_params() == fitted.get_params()
    again = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(again.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))
    search = GridSearchCV(BagOfWordsClassifier(), {"C": [1.0, 10.0]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_["C"] in {1.0, 10.0}


# Errors


def test_it_must_be_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        BagOfWordsClassifier().predict(UNSEEN)
    with pytest.raises(NotFittedError):
        BagOfWordsClassifier().save(tmp_path / "words")


def test_inputs_that_it_cannot_learn_from():
    with pytest.raises(InvalidTextsError, match="None of the 2 texts has a word"):
        BagOfWordsClassifier().fit(["?", "a !"], ["yes", "no"])
    with pytest.raises(InvalidTextsError):
        BagOfWordsClassifier().fit("one text", ["yes"])
    with pytest.raises(InvalidLabelsError, match="only one class"):
        BagOfWordsClassifier().fit(["good", "bad"], ["yes", "yes"])
    with pytest.raises(ValueError, match="Negative"):
        BagOfWordsClassifier().fit(["good", "bad"], ["yes", "no"], [1, -1])
    with pytest.raises(InvalidParameterError, match="'C' parameter"):
        BagOfWordsClassifier(C=0).fit(["good", "bad"], ["yes", "no"])
