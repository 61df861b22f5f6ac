"""A classifier that labels what it is sure of: which rows teach it, what it returns."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    PredefinedSplit,
    RepeatedKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import SelectiveClassifier
from instructclf.classifiers.wrapping.thresholds import find_threshold
from instructclf.evaluation import FewShot, evaluate_seeds
from instructclf.exceptions import AllAbstainedWarning, InvalidLabelsError, InvalidTextsError
from tests.classifiers.test_sklearn_contract import DATA_FREE_CHECKS
from tests.classifiers.wrapping.words import ASKED, Weighed, draw, regression
from tests.fixtures import LABELS as FEW_LABELS
from tests.fixtures import TEXTS as FEW_TEXTS

TEXTS, LABELS = draw(400)


def test_sure_texts_get_their_label_and_the_others_none():
    selective = SelectiveClassifier(regression(), risk=0.05, random_state=0).fit(TEXTS, LABELS)
    answers = selective.predict(ASKED)
    assert answers.dtype == object
    assert answers.tolist() == ["negative", None, None, None, "positive"]
    assert is_classifier(selective)
    assert_array_equal(selective.classes_, ["negative", "positive"])


def test_the_risk_is_kept_on_other_texts():
    selective = SelectiveClassifier(regression(), risk=0.15, random_state=0).fit(TEXTS, LABELS)
    texts, labels = draw(2000, seed=1)
    answers = selective.predict(texts)
    decided = np.not_equal(answers, None)
    assert 0.6 < decided.mean() < 0.9
    assert np.mean(answers[decided] != labels[decided]) <= 0.15
    assert selective.coverage_ == pytest.approx(decided.mean(), abs=0.08)


def test_a_share_of_the_rows_is_held_out_and_teaches_the_threshold_alone():
    selective = SelectiveClassifier(regression(), cv=0.4, random_state=0).fit(TEXTS, LABELS)
    held_out = selective.held_out_
    assert len(set(held_out.tolist())) == len(held_out) == 160
    assert_allclose(
        np.mean(LABELS[held_out] == "positive"), np.mean(LABELS == "positive"), atol=0.01
    )
    learned = np.setdiff1d(np.arange(400), held_out)
    alone = regression().fit([TEXTS[i] for i in sorted(learned)], LABELS[np.sort(learned)])
    assert_allclose(selective.predict_proba(ASKED), alone.predict_proba(ASKED), atol=1e-4)
    probabilities = selective.predict_proba([TEXTS[i] for i in held_out])
    sure, likeliest = probabilities.max(axis=1), selective.classes_[probabilities.argmax(axis=1)]
    expected = find_threshold(sure, likeliest == LABELS[held_out], risk=0.05, confidence=0.95)
    assert selective.threshold_ == expected
    assert selective.coverage_ == np.mean(sure > expected)


def test_any_splitter_of_one_split_holds_its_rows_out():
    fold = np.where(np.arange(400) < 150, 0, -1)
    selective = SelectiveClassifier(regression(), cv=PredefinedSplit(fold)).fit(TEXTS, LABELS)
    assert_array_equal(selective.held_out_, np.arange(150))
    alone = regression().fit(TEXTS[150:], LABELS[150:])
    assert_allclose(selective.predict_proba(ASKED), alone.predict_proba(ASKED), rtol=1e-5)


def test_a_fitted_classifier_learns_its_threshold_from_all_rows():
    fitted = regression().fit(*draw(400, seed=1))
    selective = SelectiveClassifier(fitted, cv="prefit").fit(TEXTS, LABELS)
    assert selective.estimator_ is fitted
    assert_array_equal(selective.held_out_, np.arange(400))
    frozen = SelectiveClassifier(FrozenEstimator(fitted), cv=0.9, random_state=0)
    assert_allclose(frozen.fit(TEXTS, LABELS).threshold_, selective.threshold_, atol=0.01)


def test_cross_fitting_judges_each_row_by_a_classifier_that_has_not_seen_it():
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    selective = SelectiveClassifier(regression(), cv=folds).fit(TEXTS, LABELS)
    assert sorted(selective.held_out_) == list(range(400))
    probabilities = cross_val_predict(regression(), TEXTS, LABELS, cv=folds, method="predict_proba")
    likeliest = selective.classes_[probabilities.argmax(axis=1)]
    expected = find_threshold(
        probabilities.max(axis=1), likeliest == LABELS, risk=0.05, confidence=0.95
    )
    assert selective.threshold_ == expected
    alone = regression().fit(TEXTS, LABELS)
    assert_allclose(selective.predict_proba(ASKED), alone.predict_proba(ASKED), rtol=1e-5)
    assert len(SelectiveClassifier(regression(), cv=4).fit(TEXTS, LABELS).held_out_) == 400


def test_a_lower_risk_labels_fewer_texts():
    coverages = [
        SelectiveClassifier(regression(), risk=risk, random_state=0).fit(TEXTS, LABELS).coverage_
        for risk in (0.05, 0.15, 0.4)
    ]
    assert coverages == sorted(set(coverages))
    assert coverages[-1] == 1


def test_too_few_rows_are_refused_before_anything_is_fitted():
    class Unfitted(Weighed):
        def fit(self, X, y, sample_weight=None):
            raise AssertionError

    selective = SelectiveClassifier(Unfitted(), random_state=0)
    match = (
        r"risk=0.05 with confidence=0.95 takes at least 59 held-out rows, even if all are right. "
        r"Of the 100 rows given, 50 are held out, which can show a risk of 0.058 at best"
    )
    with pytest.raises(InvalidLabelsError, match=match):
        selective.fit(TEXTS[:100], LABELS[:100])


def test_where_no_threshold_keeps_the_risk_all_texts_stay_open_with_a_warning():
    texts = ["fair thing"] * 200
    labels = np.tile(["negative", "positive"], 100)
    selective = SelectiveClassifier(regression(), random_state=0)
    with pytest.warns(AllAbstainedWarning, match="No threshold keeps risk=0.05 .* Of the 100 held"):
        selective.fit(texts, labels)
    assert (selective.threshold_, selective.coverage_) == (np.inf, 0)
    assert selective.predict(ASKED).tolist() == [None] * 5
    assert selective.score(texts, labels) == 0


def test_the_score_is_the_share_of_texts_that_get_the_right_label():
    selective = SelectiveClassifier(regression(), random_state=0).fit(TEXTS, LABELS)
    truth = ["negative", "negative", "negative", "positive", "negative"]
    assert selective.score(ASKED, truth) == pytest.approx(1 / 5)
    assert selective.score(ASKED, truth, sample_weight=[4, 1, 1, 1, 1]) == pytest.approx(4 / 8)
    with pytest.raises(InvalidLabelsError, match="5 texts in X and 1 labels in y"):
        selective.score(ASKED, ["negative"])


def test_metrics_refuse_open_texts():
    selective = SelectiveClassifier(regression(), random_state=0).fit(TEXTS, LABELS)
    with pytest.raises((TypeError, ValueError)):
        accuracy_score(LABELS, selective.predict(TEXTS))


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.AllAbstainedWarning")
def test_risk_and_inner_parameters_can_be_searched():
    search = GridSearchCV(
        SelectiveClassifier(regression(), random_state=0),
        {"estimator__logisticregression__C": [1e-9, 1], "risk": [0.1, 0.25]},
        cv=2,
        error_score="raise",
    )
    search.fit(TEXTS, LABELS)
    assert search.best_params_ == {"estimator__logisticregression__C": 1, "risk": 0.25}


def test_a_search_inside_never_sees_the_rows_held_out():
    seen = []
    search = GridSearchCV(Weighed(), {}, cv=2, scoring=lambda fitted, X, _: seen.extend(X) or 0.0)
    texts = [f"{text} {i}" for i, text in enumerate(TEXTS)]
    selective = SelectiveClassifier(search, risk=0.3, random_state=0).fit(texts, LABELS)
    assert len(set(seen)) == 200
    assert set(seen).isdisjoint(texts[i] for i in selective.held_out_)


def test_rows_may_be_texts_of_any_kind_or_numbers():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    expected = SelectiveClassifier(regression(), random_state=0).fit(TEXTS, LABELS)
    for kind in (tuple, np.array, pandas.Series, polars.Series):
        selective = clone(expected).fit(kind(TEXTS), kind(LABELS.tolist()))
        assert selective.threshold_ == expected.threshold_
    numbers = TfidfVectorizer().fit_transform(TEXTS)
    for rows in (numbers.toarray(), csr_array(numbers), pandas.DataFrame(numbers.toarray())):
        selective = SelectiveClassifier(LogisticRegression(), random_state=0).fit(rows, LABELS)
        assert selective.n_features_in_ == numbers.shape[1]
        assert 0 < selective.coverage_ < 1


def test_a_prompted_classifier_may_stand_inside_and_be_pickled(make_prompting):
    rows = FEW_TEXTS * 4, FEW_LABELS * 4
    selective = SelectiveClassifier(make_prompting(), risk=0.9, confidence=0.5, random_state=0)
    selective.fit(*rows)
    again = pickle.loads(pickle.dumps(selective))
    assert_array_equal(again.predict(FEW_TEXTS), selective.predict(FEW_TEXTS))
    assert again.threshold_ == selective.threshold_
    labels = selective.estimator_.predict(FEW_TEXTS)
    answers = selective.predict(FEW_TEXTS)
    assert_array_equal(answers[answers != None], labels[answers != None])  # noqa: E711  (of arrays)


def test_wrappers_may_stand_inside_each_other():
    few = FewShot(regression(), n_shots=8, random_state=0)
    selective = SelectiveClassifier(few, risk=0.3, random_state=0).fit(TEXTS, LABELS)
    assert len(selective.estimator_.shots_) == 8
    assert selective.predict(ASKED)[0] == "negative"


def test_seeds_can_be_evaluated():
    selective = SelectiveClassifier(regression())
    test = draw(100, seed=1)
    scores = evaluate_seeds(selective, TEXTS, LABELS, *test, n_shots=None, n_seeds=1)
    assert scores.mean < scores.ensemble_score


@pytest.mark.parametrize("routes", [False, True])
def test_weights_reach_the_classifier_for_the_rows_it_learns_from(routes):
    weights = np.arange(400.0)
    with config_context(enable_metadata_routing=routes):
        inner = Weighed().set_fit_request(sample_weight=True) if routes else Weighed()
        selective = SelectiveClassifier(inner, random_state=0)
        selective.fit(TEXTS, LABELS, sample_weight=weights)
    fitted = selective.estimator_
    assert fitted.texts_ == [TEXTS[int(weight)] for weight in fitted.weights_]
    assert not set(fitted.weights_.astype(int)) & set(selective.held_out_.tolist())
    with pytest.raises(ValueError, match="Got 6 values of sample_weight for 400 texts"):
        SelectiveClassifier(Weighed()).fit(TEXTS, LABELS, sample_weight=np.ones(6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"risk": 0}, r"'risk' parameter of SelectiveClassifier must be a float .* Got 0 instead"),
        ({"risk": 1.0}, "'risk' parameter"),
        ({"confidence": 1.0}, "'confidence' parameter"),
        ({"cv": 1}, "'cv' parameter"),
        ({"cv": 1.5}, "'cv' parameter"),
        ({"cv": "held out"}, "'cv' parameter"),
        ({"estimator": LinearSVC()}, "must be an object implementing 'fit' and 'predict_proba'"),
        (
            {"cv": RepeatedKFold(n_splits=2, n_repeats=2)},
            "must hold out each row at most once, .* several times. Give an int, such as 5",
        ),
    ],
)
def test_parameters_outside_their_domain_are_refused(options, message):
    selective = SelectiveClassifier(regression()).set_params(**options)
    with pytest.raises(InvalidParameterError, match=message):
        selective.fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (TEXTS, None, InvalidLabelsError, "requires y to be passed, but the target y is None"),
        (TEXTS, LABELS[:-1], ValueError, "inconsistent numbers of samples"),
        (({1: 2}), LABELS, InvalidTextsError, "X must be a sequence of texts. Got dict"),
    ],
)
def test_rows_that_do_not_fit_are_refused(X, y, error, message):
    with pytest.raises(error, match=message):
        SelectiveClassifier(regression()).fit(X, y)


def test_unfitted_use_is_refused():
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError, match="This SelectiveClassifier instance is not fitted"):
            getattr(SelectiveClassifier(regression()), method)(TEXTS)
    with pytest.raises(NotFittedError):
        SelectiveClassifier(LogisticRegression(), cv="prefit").fit(np.eye(2), [0, 1])


@pytest.mark.parametrize("name", sorted({*DATA_FREE_CHECKS} - {"check_decision_proba_consistency"}))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.AllAbstainedWarning")
def test_checks_that_need_no_data(name):
    selective = SelectiveClassifier(LogisticRegression(), risk=0.9, confidence=0.5)
    getattr(estimator_checks, name)("SelectiveClassifier", selective)


class Decided(SelectiveClassifier):
    """Takes what scikit-learn's checks pass for texts and labels, and returns labels as such."""

    def fit(self, X, y, **fit_params):
        rows = np.asarray(X) if hasattr(X, "__array__") else X
        return super().fit(rows, None if y is None else np.asarray(y), **fit_params)

    def predict(self, X):
        answers = super().predict(X)
        return np.array(answers.tolist()) if None not in answers.tolist() else answers


NOT_MET = {
    "check_complex_data": "labels are refused before numbers",
    "check_classifiers_one_label_sample_weights": "held-out rows all weigh the same",
    "check_supervised_y_2d": "too few rows decide nothing, and None cannot be compared",
}


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.AllAbstainedWarning")
def test_all_checks_on_numbers():
    selective = Decided(LogisticRegression(), risk=0.9, confidence=0.5, random_state=0)
    results = estimator_checks.check_estimator(selective, on_skip=None, on_fail=None)
    failed = {one["check_name"]: one["exception"] for one in results if one["status"] == "failed"}
    assert set(failed) <= set(NOT_MET), failed
    assert sum(one["status"] == "passed" for one in results) > 45
