"""Trials of classifiers: which are finished in the time that is given."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from instructclf import (
    BagOfWordsClassifier,
    BlendedClassifier,
    InstructionTunedClassifier,
    PromptClassifier,
    PromptFeatures,
)
from instructclf.classifiers.wrapping.pooling import find_weights
from instructclf.classifiers.wrapping.splits import split_rows
from instructclf.classifiers.wrapping.trials import LabelledRows, presumed_cost, try_classifiers
from instructclf.classifiers.wrapping.weighing import weigh

LABELS = np.array(["negative", "positive"] * 8)
ROWS = LabelledRows([f"text {i}" for i in range(16)], LABELS, None)
SPLITS = split_rows(LABELS, 4, 0)


class Clock:
    """Shows a time that moves only when a classifier moves it."""

    now = 0.0

    @classmethod
    def read(cls):
        return cls.now


class Slow(ClassifierMixin, BaseEstimator):
    """Takes stated seconds for a fit and for a prediction."""

    def __init__(self, fit_seconds, predict_seconds=0.0):
        self.fit_seconds = fit_seconds
        self.predict_seconds = predict_seconds

    def fit(self, X, y):
        Clock.now += self.fit_seconds
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        Clock.now += self.predict_seconds
        return np.full((len(X), 2), 0.5)


def try_all(*estimators, max_seconds=None):
    """Return the trials, and the lines about them."""
    lines = []
    named = [(f"e{i}", estimator) for i, estimator in enumerate(estimators)]
    trials = try_classifiers(
        named, ROWS, SPLITS, max_seconds=max_seconds, clock=Clock.read, tell=lines.append
    )
    return trials, lines


def finished(trials):
    return [name for name, trial in trials.items() if trial.finished]


def test_without_a_limit_all_are_tried():
    trials, lines = try_all(Slow(1, 0.5), Slow(100))
    assert finished(trials) == ["e0", "e1"]
    assert (trials["e0"].fit_seconds, trials["e0"].predict_seconds) == (4, 2)
    assert lines == ["Tried e0: 6 s", "Tried e1: 400 s"]


def test_one_that_would_exceed_the_time_is_left_out_after_a_fold():
    trials, lines = try_all(Slow(1), Slow(10), max_seconds=30)
    assert finished(trials) == ["e0"]
    assert trials["e1"].seconds == pytest.approx(10)
    assert lines[1] == "Left out, for lack of time, e1: 10 s"


def test_one_that_fits_the_time_exactly_is_tried():
    assert finished(try_all(Slow(1), Slow(10), max_seconds=44)[0]) == ["e0", "e1"]
    assert finished(try_all(Slow(1), Slow(10), max_seconds=43)[0]) == ["e0"]


def test_after_one_that_is_left_out_no_dearer_one_is_begun():
    trials, _ = try_all(Slow(1), Slow(10), Slow(1), max_seconds=30)
    assert finished(trials) == ["e0"]
    assert trials["e2"].seconds == 0


def test_the_cheapest_is_tried_in_any_case():
    trials, _ = try_all(Slow(10), Slow(1), max_seconds=5)
    assert finished(trials) == ["e0"]


def test_a_fold_that_gets_slower_ends_the_trial():
    """The mean of the folds so far tells how long the others take."""

    class Slower(Slow):
        n_fits = 0

        def fit(self, X, y):
            type(self).n_fits += 1
            Clock.now += 10 * type(self).n_fits
            return super().fit(X, y)

    trials, _ = try_all(Slow(0), Slower(0), max_seconds=50)
    assert finished(trials) == ["e0"]
    assert len(trials["e1"].said) == 2  # 10 + 20 s, and two more folds would take 30 of 20 s


def test_classifiers_are_tried_from_cheap_to_dear():
    words = make_pipeline(TfidfVectorizer(), LogisticRegression())
    features = make_pipeline(PromptFeatures(), LogisticRegression())
    tuned = BlendedClassifier([("tuning", InstructionTunedClassifier())])
    expected = [
        words,
        PromptClassifier(),
        PromptClassifier(n_seeds=3),
        InstructionTunedClassifier(),
    ]
    costs = [presumed_cost(estimator) for estimator in expected]
    assert costs == sorted(costs)
    assert len(set(costs)) == 4
    assert presumed_cost(BagOfWordsClassifier()) == presumed_cost(words)
    assert presumed_cost(features) == presumed_cost(PromptClassifier())
    assert presumed_cost(tuned) == presumed_cost(InstructionTunedClassifier())


def test_the_report_names_those_left_out():
    trials, _ = try_all(Slow(1, 0.4), Slow(10), Slow(20), max_seconds=20)
    tested = np.concatenate([held_out for _, held_out in SPLITS])
    found = weigh(trials, LABELS, tested, find_weights, None)
    assert found.weights == {"e0": 1, "e1": 0, "e2": 0}
    assert list(found.temperatures) == ["e0"]
    report = found.cv_results
    assert report["name"].tolist() == ["e0", "e1", "e2"]
    assert report["finished"].tolist() == [True, False, False]
    for score in ("log_loss", "log_loss_se", "accuracy", "accuracy_se", "temperature"):
        assert np.isnan(report[score]).tolist() == [False, True, True]
    assert_array_equal(report["fit_seconds"], [1, 10, np.nan])
    np.testing.assert_allclose(report["seconds_per_text"], [0.1, 0, np.nan])
    np.testing.assert_allclose(report["trial_seconds"], [5.6, 10, 0])


def test_a_blend_leaves_out_what_takes_too_long():
    class Counted(Slow):
        n_fits = 0

        def fit(self, X, y):
            type(self).n_fits += 1
            return super().fit(X, y)

    two = [("first", Slow(0)), ("second", Counted(0))]
    blend = BlendedClassifier(two, cv=4, max_seconds=1e-9).fit(ROWS.texts, LABELS)
    assert list(blend.estimators_) == ["first"]
    assert blend.weights_["second"] == 0
    assert Counted.n_fits == 0
    assert blend.predict_proba(["x"]).shape == (1, 2)


@pytest.mark.parametrize("max_seconds", [0, -1, "long"])
def test_the_time_must_be_positive(max_seconds):
    with pytest.raises(ValueError, match="max_seconds"):
        BlendedClassifier([("a", Slow(0))], max_seconds=max_seconds).fit(ROWS.texts, LABELS)
