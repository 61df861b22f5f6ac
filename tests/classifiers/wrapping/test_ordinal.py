"""Ordered labels: their median and mean against every alternative, and as an estimator."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import OrdinalClassifier
from instructclf.exceptions import InvalidLabelsError
from tests.classifiers.test_sklearn_contract import DATA_FREE_CHECKS
from tests.fixtures import LABELS as FEW_LABELS
from tests.fixtures import TEXTS as FEW_TEXTS

WORDS = ["awful", "bad", "fair", "good", "great"]
SCORES = {word: score for score, word in enumerate(WORDS, start=1)}


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are the rows themselves."""

    def fit(self, X, y, sample_weight=None):
        self.classes_, self.weights_ = np.unique(y), sample_weight
        return self

    def predict_proba(self, X):
        return np.asarray(X)


def draw_probabilities(n_texts, n_classes, seed=0):
    return np.random.default_rng(seed).dirichlet([0.5] * n_classes, n_texts)


def fit(labels, **options):
    labels = list(labels)
    return OrdinalClassifier(Given(), **options).fit(np.zeros((len(labels), 1)), labels)


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ([1, 2, 3, 4, 5], {}),
        ([-10, 0, 1, 50], {}),
        (WORDS, {"scores": SCORES}),
        (WORDS, {"scores": {word: -(score**3) for word, score in SCORES.items()}}),
    ],
    ids=["stars", "numbers far apart", "words", "words from last to first"],
)
def test_no_label_has_a_smaller_expected_absolute_error(labels, options):
    ordinal = fit(labels, **options)
    probabilities = draw_probabilities(300, len(labels))
    scores = options.get("scores", {label: label for label in labels})
    predicted = ordinal.predict(probabilities)
    for row, label in zip(probabilities, predicted.tolist(), strict=True):
        errors = {
            one: sum(
                p * abs(scores[one] - scores[other])
                for p, other in zip(row, ordinal.classes_.tolist(), strict=True)
            )
            for one in labels
        }
        assert errors[label] <= min(errors.values()) + 1e-9
    assert len(set(predicted.tolist())) == len(labels)


def test_the_expected_score_is_the_mean_over_labels():
    ordinal = fit(WORDS, scores=SCORES)
    probabilities = draw_probabilities(50, 5)
    expected = [
        sum(p * SCORES[label] for p, label in zip(row, sorted(WORDS), strict=True))
        for row in probabilities
    ]
    assert_allclose(ordinal.expected_score(probabilities), expected)
    assert_array_equal(ordinal.scores_, [SCORES[label] for label in sorted(WORDS)])


def test_between_two_labels_the_lower_one_is_predicted():
    assert fit([1, 2, 3]).predict([[0.5, 0, 0.5], [0, 0.5, 0.5]]).tolist() == [1, 2]
    assert fit(["a", "b"], scores={"a": 2, "b": 1}).predict([[0.5, 0.5]]).tolist() == ["b"]


def test_probabilities_that_do_not_quite_sum_to_one_have_a_median_too():
    assert fit([1, 2]).predict([[0.0, 0.4999], [0.4999, 0.0]]).tolist() == [2, 1]


def test_the_most_probable_label_may_be_another():
    row = [[0.4, 0.0, 0.25, 0.0, 0.35]]
    assert fit([1, 2, 3, 4, 5]).predict(row).tolist() == [3]
    assert fit([1, 2, 3, 4, 5]).expected_score(row) == pytest.approx([2.9])


def test_one_label_is_its_own_median():
    ordinal = fit([7, 7])
    assert ordinal.predict([[1.0]]).tolist() == [7]
    assert ordinal.expected_score([[1.0]]).tolist() == [7.0]


# As an estimator


def draw(n_rows, seed=0):
    """Draw texts of one word, whose stars are near that of the word."""
    rng = np.random.default_rng(seed)
    words = rng.integers(5, size=n_rows)
    stars = np.clip(words + rng.choice([-1, 0, 0, 1], n_rows), 0, 4) + 1
    return [f"{WORDS[word]} thing" for word in words], stars


TEXTS, STARS = draw(200)


def regression():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


def test_absolute_errors_can_be_cross_validated_and_searched():
    ordinal = OrdinalClassifier(regression())
    assert is_classifier(ordinal)
    found = cross_validate(ordinal, TEXTS, STARS, scoring="neg_mean_absolute_error", cv=4)
    assert -0.7 < found["test_score"].mean() < 0
    grid = {"estimator__logisticregression__C": [1e-6, 1]}
    search = GridSearchCV(ordinal, grid, scoring="neg_mean_absolute_error", cv=2)
    assert search.fit(TEXTS, STARS).best_params_ == {"estimator__logisticregression__C": 1}


def test_probabilities_and_accuracy_are_those_of_the_classifier():
    ordinal, alone = OrdinalClassifier(regression()).fit(TEXTS, STARS), regression()
    alone.fit(TEXTS, STARS)
    assert_allclose(ordinal.predict_proba(TEXTS), alone.predict_proba(TEXTS), rtol=1e-5)
    assert_array_equal(ordinal.classes_, [1, 2, 3, 4, 5])
    assert ordinal.score(TEXTS, STARS) == np.mean(ordinal.predict(TEXTS) == STARS)


def test_a_fitted_classifier_may_stand_inside():
    fitted = regression().fit(TEXTS, STARS)
    ordinal = OrdinalClassifier(FrozenEstimator(fitted)).fit(TEXTS[:1], STARS[:1])
    assert_array_equal(ordinal.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_prompted_classifier_may_stand_inside_and_be_pickled(make_prompting):
    scores = {label: n for n, label in enumerate(sorted(set(FEW_LABELS)))}
    ordinal = OrdinalClassifier(make_prompting(), scores=scores).fit(FEW_TEXTS, FEW_LABELS)
    again = pickle.loads(pickle.dumps(ordinal))
    assert_array_equal(again.predict(FEW_TEXTS), ordinal.predict(FEW_TEXTS))
    assert_allclose(again.expected_score(FEW_TEXTS), ordinal.expected_score(FEW_TEXTS), atol=1e-5)


@pytest.mark.parametrize("routes", [False, True])
def test_weights_reach_the_classifier(routes):
    with config_context(enable_metadata_routing=routes):
        inner = Given().set_fit_request(sample_weight=True) if routes else Given()
        ordinal = OrdinalClassifier(inner).fit(np.eye(2), [1, 2], sample_weight=[3, 4])
    assert ordinal.estimator_.weights_ == [3, 4]


def test_words_without_scores_are_refused_before_anything_is_fitted():
    class Unfitted(Given):
        def fit(self, X, y, sample_weight=None):
            raise AssertionError

    ordinal = OrdinalClassifier(Unfitted())
    match = r"no numbers, such as 'bad', so nothing says their order. .* \{'bad': 1, 'good': 2, …\}"
    with pytest.raises(InvalidLabelsError, match=match):
        ordinal.fit(np.eye(2), ["good", "bad"])
    match = r"Label 'bad' has no score. The 'scores' parameter has those of \['Bad', 'good'\]"
    with pytest.raises(InvalidLabelsError, match=match):
        ordinal.set_params(scores={"Bad": 1, "good": 2}).fit(np.eye(2), ["good", "bad"])


def test_a_label_that_only_the_classifier_knows_needs_a_score_too():
    class Defined(Given):
        def fit(self, X, y, sample_weight=None):
            self.classes_ = np.array(WORDS)
            return self

    scores = {word: score for word, score in SCORES.items() if word != "fair"}
    with pytest.raises(InvalidLabelsError, match="Label 'fair' has no score"):
        OrdinalClassifier(Defined(), scores=scores).fit(np.eye(2), ["good", "bad"])


@pytest.mark.parametrize("scores", [{"a": 1, "b": 1}, {"a": 1, "b": np.nan}, {"a": 1, "b": "2"}])
def test_scores_are_different_numbers(scores):
    with pytest.raises(InvalidParameterError, match="must give each label a finite number of its"):
        fit(["a", "b"], scores=scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": ["a", "b"]}, "'scores' parameter of OrdinalClassifier must be an instance of"),
        ({"estimator": LinearSVC()}, "must be an object implementing 'fit' and 'predict_proba'"),
    ],
)
def test_parameters_outside_their_domain_are_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        OrdinalClassifier(regression()).set_params(**options).fit(TEXTS, STARS)


def test_unfitted_use_is_refused():
    for method in ("predict", "expected_score", "predict_proba"):
        with pytest.raises(NotFittedError, match="This OrdinalClassifier instance is not fitted"):
            getattr(OrdinalClassifier(regression()), method)(TEXTS)


@pytest.mark.parametrize("name", sorted({*DATA_FREE_CHECKS} - {"check_decision_proba_consistency"}))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_checks_that_need_no_data(name):
    getattr(estimator_checks, name)("OrdinalClassifier", OrdinalClassifier(LogisticRegression()))


class Scored(OrdinalClassifier):
    """Takes the texts that scikit-learn's checks pass for labels, with scores by name."""

    def fit(self, X, y, **fit_params):
        labels = None if y is None else np.asarray(y)
        self.scores = None
        if labels is not None and labels.dtype.kind in "UO":
            self.scores = {label: n for n, label in enumerate(sorted(set(labels.ravel().tolist())))}
        return super().fit(X, labels, **fit_params)


NOT_MET = {
    "check_complex_data": "labels are refused before numbers",
    "check_classifiers_train": "the median need not be the most probable label",
}


def test_all_checks_on_numbers():
    ordinal = Scored(LogisticRegression())
    results = estimator_checks.check_estimator(ordinal, on_skip=None, on_fail=None)
    failed = {one["check_name"]: one["exception"] for one in results if one["status"] == "failed"}
    assert set(failed) <= set(NOT_MET), failed
    assert sum(one["status"] == "passed" for one in results) > 45
