"""Balanced accuracy gives the same figures as accuracy, with equal weights of labels."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import (
    AccuracySecondsDisplay,
    ComparisonReport,
    LearningCurveDisplay,
    SeedScores,
    SeedScoresDisplay,
    compare,
    cross_validate_seeds,
    evaluate_seeds,
    learning_curve,
)
from instructclf.evaluation.intervals import resample_means

RNG = np.random.default_rng(0)
TRUTH = np.repeat(["a", "b", "c"], [60, 30, 10])
TRAIN = [f"{label} {i % 5}" for i, label in enumerate(TRUTH)], TRUTH
TEST = [f"{label if i % 4 else 0} {i % 3}" for i, label in enumerate(TRUTH[::2])], TRUTH[::2]
REGRESSION = make_pipeline(TfidfVectorizer(token_pattern=r"\w+"), LogisticRegression())
BALANCED = {"scoring": "balanced_accuracy"}


def answered(share, *, n_seeds=4, truth=TRUTH, **options):
    """Make scores in which this share of every label is right; the other answers are "a"."""
    predictions = np.where(RNG.random((n_seeds, len(truth))) < share, truth, "a")
    seconds = np.ones(n_seeds)
    shots = [np.arange(4)] * n_seeds
    return SeedScores(truth, predictions, seconds, seconds, shots, 4, **options)


def test_it_is_that_of_scikit_learn():
    scores = answered(0.6, **BALANCED)
    expected = [balanced_accuracy_score(TRUTH, row) for row in scores.predictions]
    assert_allclose(scores.scores, expected)
    assert scores.mean == pytest.approx(np.mean(expected))
    assert scores.std == pytest.approx(np.std(expected, ddof=1))


def test_a_label_that_is_only_predicted_does_not_count():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says that there is such a label
        expected = balanced_accuracy_score(["a", "a", "b"], ["a", "z", "b"])
    seconds = np.ones(1)
    truth, predictions = np.array(["a", "a", "b"]), np.array([["a", "z", "b"]])
    scores = SeedScores(truth, predictions, seconds, seconds, [], None, **BALANCED)
    assert scores.mean == pytest.approx(expected)


def test_the_ensemble_is_scored_alike():
    found = evaluate_seeds(REGRESSION, *TRAIN, *TEST, n_shots=9, n_seeds=3, **BALANCED)
    likeliest = found.classes[found.log_probabilities.mean(axis=0).argmax(axis=1)]
    assert found.ensemble_score == pytest.approx(balanced_accuracy_score(TEST[1], likeliest))


def test_with_as_many_texts_of_each_label_it_is_the_accuracy():
    truth = np.repeat(["a", "b", "c"], 20)
    scores = answered(0.5, truth=truth, **BALANCED)
    assert_allclose(scores.scores, [accuracy_score(truth, row) for row in scores.predictions])


def test_always_the_most_frequent_label_is_worth_no_more_than_chance():
    majority = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=1, **BALANCED)
    assert majority.mean == pytest.approx(1 / 3)
    assert_allclose(majority.interval(), (1 / 3, 1 / 3))  # for any draw of texts


def test_its_interval_draws_texts_within_their_labels():
    """With one seed only texts are drawn, which a simple loop does as well."""
    scores = answered(0.5, n_seeds=1, **BALANCED)
    drawn = []
    for _ in range(4000):
        rows = np.concatenate(
            [RNG.choice(np.flatnonzero(label == TRUTH), np.sum(label == TRUTH)) for label in "abc"]
        )
        drawn.append(balanced_accuracy_score(TRUTH[rows], scores.predictions[0, rows]))
    expected = np.quantile(drawn, [0.025, 0.975])
    assert_allclose(scores.interval(n_resamples=4000), expected, atol=0.02)


def test_groups_keep_their_numbers_in_every_draw():
    codes = np.repeat([0, 1], [30, 3])
    assert_allclose(resample_means([codes], groups=codes, n_resamples=50), codes.mean())
    assert resample_means([codes], n_resamples=50).std() > 0


def test_a_difference_is_one_of_balanced_accuracies():
    """The second knows the rarest label, and pays for it with as many texts of the others."""
    first = np.where(TRUTH == "c", "a", TRUTH)
    second = np.where(np.arange(100) < 10, "c", TRUTH)
    seconds = np.ones(1)
    one, other = (
        SeedScores(TRUTH, answers[np.newaxis], seconds, seconds, [], None, **BALANCED)
        for answers in (first, second)
    )
    found = other.compare(one)
    expected = [balanced_accuracy_score(TRUTH, answers) for answers in (second, first)]
    assert found.difference == pytest.approx(expected[0] - expected[1])
    assert found.interval.low > 0
    assert (found.n_first, found.n_second) == (10, 10)  # as many answers either way


def test_scores_of_two_kinds_are_not_compared():
    with pytest.raises(InvalidParameterError, match=r"'balanced_accuracy' for .* and 'accuracy'"):
        answered(0.6, **BALANCED).compare(answered(0.6))
    one, other = (
        cross_validate_seeds(REGRESSION, *TRAIN, n_shots=6, n_seeds=2, **options)
        for options in (BALANCED, {})
    )
    with pytest.raises(InvalidParameterError, match="Only scores of one kind"):
        one.compare(other)


def test_folds_and_curves_are_scored_alike():
    folds = cross_validate_seeds(REGRESSION, *TRAIN, n_shots=6, n_seeds=2, **BALANCED)
    expected = [[balanced_accuracy_score(f.y_test, p) for p in f.predictions] for f in folds.folds]
    assert_allclose(folds.scores, expected)
    assert str(folds).startswith("balanced accuracy ")
    curve = learning_curve(REGRESSION, *TRAIN, *TEST, shots=[6, 9], n_seeds=2, **BALANCED)
    for scores in curve.scores.values():
        expected = [balanced_accuracy_score(TEST[1], row) for row in scores.predictions]
        assert_allclose(scores.scores, expected)


def test_tables_and_rows_say_which_it_is():
    report = compare({"regression": REGRESSION}, *TRAIN, *TEST, n_shots=6, **BALANCED)
    assert "balanced accuracy" in str(report).splitlines()[0]
    assert "| balanced accuracy |" in report.to_markdown()
    assert ">balanced accuracy</th>" in report.to_html()
    row = report.to_rows()[0]
    assert {"balanced_accuracy", "ensemble_balanced_accuracy"} <= row.keys()
    assert "accuracy" not in row
    assert str(report.scores["regression"]).startswith("balanced accuracy ")


def test_a_table_of_both_kinds_names_both():
    report = ComparisonReport({"one": answered(0.6), "other": answered(0.6, **BALANCED)})
    assert "accuracy or balanced accuracy" in str(report)


@pytest.mark.usefixtures("pyplot")
def test_pictures_say_which_it_is():
    report = compare({"regression": REGRESSION}, *TRAIN, *TEST, n_shots=6, n_seeds=2, **BALANCED)
    curve = learning_curve(REGRESSION, *TRAIN, *TEST, shots=[6, 9], n_seeds=2, **BALANCED)
    assert SeedScoresDisplay.from_report(report).ax_.get_xlabel() == "balanced accuracy"
    for display in (
        AccuracySecondsDisplay.from_report(report),
        LearningCurveDisplay.from_curves(curve),
    ):
        assert display.ax_.get_ylabel() == "balanced accuracy, 95% interval"


def test_progress_says_which_it_is(capsys):
    evaluate_seeds(REGRESSION, *TRAIN, *TEST, n_shots=6, n_seeds=1, verbose=1, **BALANCED)
    assert "balanced accuracy " in capsys.readouterr().err


@pytest.mark.parametrize("function", [evaluate_seeds, learning_curve, compare])
def test_other_kinds_are_an_error_that_names_them(function):
    estimators = {"regression": REGRESSION} if function is compare else REGRESSION
    with pytest.raises(InvalidParameterError, match=r"'scoring' .*'balanced_accuracy'.*'f1'"):
        function(estimators, *TRAIN, *TEST, scoring="f1")
