"""A classifier that averages others: how they are weighed, what it returns."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import (
    BagOfWordsClassifier,
    BlendedClassifier,
    SelectiveClassifier,
    list_approaches,
)
from instructclf.classifiers.wrapping.pooling import choose_best, find_weights
from instructclf.exceptions import InvalidLabelsError, InvalidTextsError
from tests.classifiers.test_sklearn_contract import DATA_FREE_CHECKS

WORDS = np.array(["awful", "bad", "good", "great"])


def draw(n_rows, seed=0, noise=0.1):
    """Draw texts of one word that nearly tells the label."""
    rng = np.random.default_rng(seed)
    words = rng.integers(4, size=n_rows)
    flipped = rng.random(n_rows) < noise
    labels = np.where((words >= 2) ^ flipped, "positive", "negative")
    return [f"{WORDS[word]} thing" for word in words], labels


TEXTS, LABELS = draw(80)
ASKED = [f"{word} thing" for word in WORDS]


def regression():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


class Guess(ClassifierMixin, BaseEstimator):
    """Gives the first label a probability that looks at nothing, and counts how often it learns."""

    n_fits = 0

    def __init__(self, probability=0.5, labels=None):
        self.probability = probability
        self.labels = labels

    def fit(self, X, y):
        type(self).n_fits += 1
        self.n_rows_ = len(X)
        self.classes_ = np.unique(y if self.labels is None else self.labels)
        return self

    def predict_proba(self, X):
        n_others = len(self.classes_) - 1
        row = [self.probability, *[(1 - self.probability) / n_others] * n_others]
        return np.tile(row, (len(X), 1))


def blend(*others, **options):
    named = [("words", regression()), *((f"other{i}", o) for i, o in enumerate(others))]
    return BlendedClassifier(named, **({"random_state": 0} | options))


# Weights


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_the_most_probable_ones(weighted):
    rng = np.random.default_rng(0)
    likelihoods = rng.beta(2, 1, size=(40, 3))
    counts = rng.uniform(0.5, 1.5, size=40) if weighted else np.ones(40)
    counts = counts / counts.mean()

    def loss(logits):
        weights = np.exp(logits - np.logaddexp.reduce(logits))
        return -(counts @ np.log(likelihoods @ weights)) - 2 * np.log(weights).sum()

    best = minimize(loss, np.zeros(3)).x
    expected = np.exp(best - np.logaddexp.reduce(best))
    assert expected.min() > 0.05  # so that none is left out
    found = find_weights(likelihoods, 5 * counts) if weighted else find_weights(likelihoods)
    assert_allclose(found, expected, atol=1e-4)


def test_many_rows_move_the_weights_further_than_few():
    right = np.array([[0.9, 0.3]])
    few, many = (
        find_weights(np.repeat(right, 2, axis=0)),
        find_weights(np.repeat(right, 60, axis=0)),
    )
    assert 0.5 < few[0] < many[0]
    assert_array_equal(many, [1, 0])  # what hardly counts is left out


def test_a_classifier_that_is_right_where_the_other_is_wrong_keeps_its_weight():
    likelihoods = np.tile([[0.95, 0.05], [0.05, 0.95]], (50, 1))
    assert_allclose(find_weights(likelihoods), [0.5, 0.5])


def test_the_best_has_the_largest_likelihood_of_all_rows():
    assert_array_equal(choose_best(np.array([[0.9, 0.6], [0.1, 0.5]])), [0, 1])


# Fitting


def test_what_tells_the_labels_gets_the_weight():
    fitted = blend(Guess()).fit(TEXTS, LABELS)
    assert fitted.weights_["words"] > 0.8
    assert fitted.predict(ASKED).tolist() == ["negative"] * 2 + ["positive"] * 2


def test_probabilities_are_the_weighted_mean_of_cooled_ones():
    other = make_pipeline(TfidfVectorizer(analyzer="char"), LogisticRegression(C=0.1))
    fitted = blend(other).fit(TEXTS, LABELS)
    assert min(fitted.weights_.values()) > 0.05
    expected = 0
    for name, inner in fitted.estimators_.items():
        powers = inner.predict_proba(ASKED) ** (1 / fitted.temperatures_[name])
        expected += fitted.weights_[name] * powers / powers.sum(axis=1, keepdims=True)
    assert_allclose(fitted.predict_proba(ASKED), expected, rtol=1e-5)
    assert_allclose(fitted.predict_log_proba(ASKED), np.log(expected), rtol=1e-5)


def test_what_was_tried_is_that_of_cross_validation():
    splitter = StratifiedKFold(4, shuffle=True, random_state=0)
    found = cross_val_predict(regression(), TEXTS, LABELS, cv=splitter)
    results = blend(Guess()).fit(TEXTS, LABELS).cv_results_
    assert results["name"].tolist() == ["words", "other0"]
    assert results["accuracy"][0] == np.mean(found == LABELS)
    assert_allclose(results["log_loss"][1], np.log(2))
    assert results["accuracy_se"][0] > 0
    assert set(map(len, results.values())) == {2}
    assert results["finished"].all()
    n_texts = len(TEXTS)
    seconds = 4 * results["fit_seconds"] + n_texts * results["seconds_per_text"]
    assert_allclose(seconds, results["trial_seconds"])


def test_an_overconfident_classifier_is_cooled():
    sure = Guess(probability=0.999)
    assert blend(sure).fit(TEXTS, LABELS).temperatures_["other0"] > 1


def test_the_best_is_one_classifier_and_learns_from_all_rows():
    fitted = blend(Guess(), method="best").fit(TEXTS, LABELS)
    assert fitted.weights_ == {"words": 1.0, "other0": 0.0}
    assert list(fitted.estimators_) == ["words"]


def test_classifiers_learn_once_a_fold_and_once_from_all_rows():
    Guess.n_fits = 0
    one = BlendedClassifier([("guess", Guess())], cv=3).fit(TEXTS, LABELS)
    assert Guess.n_fits == 3 + 1
    assert one.estimators_["guess"].n_rows_ == len(TEXTS)


@pytest.mark.parametrize(
    ("cv", "n_rows", "n_learned"), [(0.25, 80, 60), ("auto", 600, 450), ("auto", 4096, 3584)]
)
def test_with_one_split_the_classifiers_that_learned_are_kept(cv, n_rows, n_learned):
    Guess.n_fits = 0
    one = BlendedClassifier([("guess", Guess())], cv=cv, random_state=0).fit(*draw(n_rows))
    assert Guess.n_fits == 1
    assert one.estimators_["guess"].n_rows_ == n_learned


def test_labels_that_only_a_classifier_knows_are_kept():
    other = Guess(0.2, labels=["mixed", "negative", "positive"])
    fitted = blend(other).fit(TEXTS, LABELS)
    assert fitted.classes_.tolist() == ["mixed", "negative", "positive"]
    probabilities = fitted.predict_proba(ASKED)
    assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities > 0).all()


def test_labels_reach_the_classifiers_as_they_are():
    """A language model must see names, not numbers of labels."""
    seen = blend(Guess()).fit(TEXTS, LABELS).estimators_["words"].classes_
    assert seen.tolist() == ["negative", "positive"]


def test_a_line_says_what_was_tried(capsys):
    blend(Guess(), verbose=1).fit(TEXTS, LABELS)
    assert "Tried words: 0 s\n" in capsys.readouterr().err


# Weights of rows


class WeightedGuess(Guess):
    """Keeps the weights it learns with."""

    def fit(self, X, y, sample_weight=None):
        self.sample_weight_ = sample_weight
        return super().fit(X, y)


def test_the_best_is_that_of_repeated_rows():
    likelihoods = np.array([[0.9, 0.6], [0.1, 0.5]])
    assert_array_equal(choose_best(likelihoods, np.array([9.0, 1.0])), [1, 0])
    repeated = np.repeat(likelihoods, [9, 1], axis=0)
    assert_array_equal(choose_best(repeated), [1, 0])


def test_held_out_rows_count_by_their_weights():
    """One classifier knows the rows that count, and another one those that hardly do."""
    labels = np.array(["negative", "positive"] * 20)
    weights = np.where(labels == "negative", 1.0, 0.001)
    two = [("first", WeightedGuess(0.9)), ("second", WeightedGuess(0.1))]
    fitted = BlendedClassifier(two, random_state=0).fit(["x"] * 40, labels, weights)
    assert fitted.weights_["first"] > 0.9
    results = fitted.cv_results_
    assert_allclose(results["accuracy"], np.array([1, 0.001]) / 1.001)
    assert_allclose(fitted.estimators_["first"].sample_weight_, weights)
    even = BlendedClassifier(two, random_state=0).fit(["x"] * 40, labels)
    assert_allclose(list(even.weights_.values()), [0.5, 0.5])
    assert even.estimators_["first"].sample_weight_ is None


def test_the_standard_error_of_equal_weights_is_the_usual_one():
    plain = blend(Guess(0.7)).fit(TEXTS, LABELS).cv_results_
    n_texts = len(TEXTS)
    alike = BlendedClassifier(
        [("words", BagOfWordsClassifier(C=1.0)), ("other0", WeightedGuess(0.7))], random_state=0
    ).fit(TEXTS, LABELS, np.full(n_texts, 3.0))
    share = np.mean(LABELS == "negative")
    expected = np.sqrt(share * (1 - share) / (n_texts - 1))
    for found in (plain, alike.cv_results_):
        assert_allclose(found["accuracy_se"][1], expected)


def test_a_row_of_weight_zero_is_left_out():
    weights = np.ones(80)
    weights[:20] = 0
    weighted = BlendedClassifier([("guess", WeightedGuess())], random_state=0)
    assert weighted.fit(TEXTS, LABELS, weights).estimators_["guess"].n_rows_ == 60


def test_a_classifier_that_takes_no_weights_is_an_error():
    with pytest.raises(InvalidParameterError, match="fit of 'words', a Pipeline, takes none"):
        blend().fit(TEXTS, LABELS, np.ones(80))


def test_prompting_shows_rows_and_weighs_none(make_prompting):
    names = [("prompting", make_prompting(n_shots=4)), ("words", BagOfWordsClassifier())]
    weights = np.linspace(0.1, 1, 16)
    fitted = BlendedClassifier(names, cv=2, random_state=0).fit(TEXTS[:16], LABELS[:16], weights)
    assert sum(fitted.weights_.values()) == pytest.approx(1)


# Language models


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
def test_approaches_are_blended(make_prompting, make_tuning):
    names = [("prompting", make_prompting(n_shots=4)), ("tuning", make_tuning(max_epochs=2))]
    fitted = BlendedClassifier(names, cv=2, random_state=0).fit(TEXTS[:16], LABELS[:16])
    assert sum(fitted.weights_.values()) == pytest.approx(1)
    assert_allclose(fitted.predict_proba(ASKED).sum(axis=1), 1)


def test_the_listed_approaches_share_their_parameters():
    definitions = {"negative": "They dislike it.", "positive": "They like it."}
    listed = dict(list_approaches("some/model", label_definitions=definitions))
    assert list(listed) == ["prompting", "tuning", "words"]
    for name in ("prompting", "tuning"):
        assert listed[name].model == "some/model"
        assert listed[name].label_definitions == definitions


# scikit-learn


@pytest.mark.parametrize("check", DATA_FREE_CHECKS)
def test_scikit_learn_checks(check):
    two = [("weak", LogisticRegression(C=0.1)), ("strong", LogisticRegression())]
    getattr(estimator_checks, check)("BlendedClassifier", BlendedClassifier(two))


def test_clones_and_nested_parameters():
    original = blend(Guess())
    copy = clone(original).set_params(other0__probability=0.7)
    assert original.get_params()["other0__probability"] == 0.5
    assert copy.get_params()["other0__probability"] == 0.7
    assert is_classifier(copy)


def test_a_search_reaches_into_it():
    grid = {"other0__probability": [0.3, 0.7], "method": ["blend", "best"]}
    search = GridSearchCV(blend(Guess()), grid, cv=2).fit(TEXTS, LABELS)
    assert search.best_score_ > 0.8


def test_it_cross_validates_and_defers():
    scores = cross_validate(blend(Guess()), TEXTS, LABELS, cv=3, scoring=["accuracy", "roc_auc"])
    assert scores["test_roc_auc"].mean() > 0.8
    texts, labels = draw(400, noise=0.02)
    selective = SelectiveClassifier(blend(Guess()), risk=0.1, random_state=0).fit(texts, labels)
    assert selective.coverage_ > 0.9


# Errors


def test_it_must_be_fitted():
    with pytest.raises(NotFittedError):
        blend().predict(ASKED)


@pytest.mark.parametrize(
    ("estimators", "message"),
    [
        ([], "is empty. Take those of list_approaches"),
        ([("svm", LinearSVC())], "'svm' has no predict_proba.*CalibratedClassifierCV"),
    ],
)
def test_a_classifier_must_have_probabilities(estimators, message):
    with pytest.raises(InvalidParameterError, match=message):
        BlendedClassifier(estimators).fit(TEXTS, LABELS)


def test_names_must_differ():
    with pytest.raises(ValueError, match="not unique"):
        BlendedClassifier([("a", Guess()), ("a", Guess())]).fit(TEXTS, LABELS)


def test_a_label_with_a_single_row_is_named():
    labels = ["negative", *["positive"] * 5]
    with pytest.raises(InvalidLabelsError, match="Label 'negative' has a single row"):
        blend().fit(TEXTS[:6], labels)


def test_other_inputs_are_errors():
    with pytest.raises(InvalidTextsError):
        blend().fit("one text", ["negative"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        blend().fit(TEXTS, LABELS[:-1])
    with pytest.raises(InvalidParameterError):
        blend(method="vote").fit(TEXTS, LABELS)
