"""Risk over coverage, counted one text at a time."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import (
    area_under_risk_coverage,
    coverage_at_risk,
    risk_coverage_curve,
)
from instructclf.exceptions import InvalidLabelsError

CLASSES = np.array(["a", "b", "c"])


def draw(n_texts, seed, n_values=1000):
    """Draw probabilities of three classes, some of them equal, and true labels."""
    rng = np.random.default_rng(seed)
    probabilities = np.ceil(rng.dirichlet([0.5] * 3, n_texts) * n_values)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return rng.choice(CLASSES, n_texts), np.round(probabilities, 6)


def by_hand(y_true, probabilities):
    """Return pairs of the confidence of each text, and whether its likeliest label is right."""
    return [
        (row.max(), CLASSES[row.argmax()] == label)
        for label, row in zip(y_true, probabilities, strict=True)
    ]


@pytest.mark.parametrize("n_values", [1000, 3])
def test_each_point_of_the_curve_is_counted(n_values):
    truth, probabilities = draw(40, 0, n_values)
    curve = risk_coverage_curve(truth, probabilities, classes=CLASSES)
    texts = by_hand(truth, probabilities)
    assert_array_equal(curve.thresholds, sorted({sure for sure, _ in texts}, reverse=True))
    for coverage, risk, threshold in zip(*curve, strict=True):
        decided = [right for sure, right in texts if sure >= threshold]
        assert coverage == len(decided) / 40
        assert risk == pytest.approx(decided.count(False) / len(decided))
    assert curve.coverage[-1] == 1


def test_the_coverage_at_a_risk_is_the_largest_with_this_risk_or_less():
    truth, probabilities = draw(60, 1)
    texts = by_hand(truth, probabilities)
    for risk in (0, 0.1, 0.3, 0.5, 1):
        fine = [0.0]
        for threshold, _ in texts:
            decided = [right for sure, right in texts if sure >= threshold]
            if decided.count(False) <= risk * len(decided) + 1e-12:
                fine.append(len(decided) / 60)
        assert coverage_at_risk(truth, probabilities, risk=risk, classes=CLASSES) == max(fine)


def test_the_area_is_the_mean_risk_over_coverages():
    truth, probabilities = draw(50, 2, 10**6)
    texts = sorted(by_hand(truth, probabilities), key=lambda text: -text[0])
    assert len({sure for sure, _ in texts}) == 50
    rights = [right for _, right in texts]
    risks = [rights[:k].count(False) / k for k in range(1, 51)]
    assert area_under_risk_coverage(truth, probabilities) == pytest.approx(np.mean(risks))
    best = sorted(rights, reverse=True)
    least = np.mean([best[:k].count(False) / k for k in range(1, 51)])
    excess = area_under_risk_coverage(truth, probabilities, excess=True)
    assert excess == pytest.approx(np.mean(risks) - least)


def test_texts_of_equal_confidence_count_as_in_random_order():
    truth, probabilities = ["a", "b", "a", "a", "b"], [0.1, 0.6, 0.6, 0.4, 0.2]
    rights, tied = [[True, True, False, True, False], [1, 2, 3]]
    areas = []
    for order in permutations(tied):
        # 0.9, then three of 0.6, and 0.8 in second place
        ranked = [rights[i] for i in (0, 4, *order)]
        areas.append(np.mean([ranked[:k].count(False) / k for k in range(1, 6)]))
    assert area_under_risk_coverage(truth, probabilities) == pytest.approx(np.mean(areas))


def test_a_perfect_ranking_has_no_excess_and_no_error_no_area():
    truth, probabilities = ["a", "b", "a"], [0.1, 0.9, 0.6]
    assert area_under_risk_coverage(truth, probabilities, excess=True) == 0
    assert area_under_risk_coverage(truth, [0.1, 0.9, 0.4]) == 0


def test_of_two_classes_one_column_is_enough():
    truth, second = ["a", "b", "b", "a"], np.array([0.2, 0.9, 0.4, 0.3])
    both = np.column_stack([1 - second, second])
    for found, expected in zip(
        risk_coverage_curve(truth, second), risk_coverage_curve(truth, both), strict=True
    ):
        assert_allclose(found, expected)


@pytest.mark.parametrize("labels", [["n", "p"], ["a", "b", "c"]], ids=["two", "three"])
@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (coverage_at_risk, {"risk": 0.2}),
        (area_under_risk_coverage, {"greater_is_better": False}),
    ],
)
def test_metrics_can_score_a_search(metric, options, labels):
    texts = [f"word{k} filler{i}" for i in range(12) for k in range(len(labels))]
    scorer = make_scorer(metric, response_method="predict_proba", **options)
    classifier = make_pipeline(CountVectorizer(), LogisticRegression())
    search = GridSearchCV(classifier, {"logisticregression__C": [1e-6, 1]}, scoring=scorer, cv=2)
    search.fit(texts, labels * 12)
    kwargs = {"risk": 0.2} if "risk" in options else {}
    expected = metric(labels * 12, search.predict_proba(texts), **kwargs)
    sign = 1 if "risk" in options else -1
    assert search.score(texts, labels * 12) == pytest.approx(sign * expected)


@pytest.mark.parametrize("risk", [-0.1, 1.5, "little", None])
def test_a_risk_outside_0_to_1_is_refused(risk):
    with pytest.raises(InvalidParameterError, match="'risk' parameter must be a float from 0 to 1"):
        coverage_at_risk(["a", "b"], [0.1, 0.9], risk=risk)


@pytest.mark.parametrize(
    "metric", [risk_coverage_curve, coverage_at_risk, area_under_risk_coverage]
)
def test_predictions_that_do_not_fit_are_refused(metric):
    with pytest.raises(InvalidLabelsError, match=r"shape \(2, 2\).* name all classes in 'classes'"):
        metric(["a", "b"], np.full((2, 3), 1 / 3))
    with pytest.raises(InvalidLabelsError, match="No label in y_true is one of the classes"):
        metric(["a", "b"], np.full((2, 2), 0.5), classes=[0, 1])
    with pytest.raises(InvalidParameterError, match=r"Got 1.5 in row 1, column 0 instead"):
        metric(["a", "b"], [0.5, 1.5])
