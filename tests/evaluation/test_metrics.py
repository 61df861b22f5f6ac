import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import mean_set_size, set_coverage
from instructclf.evaluation.metrics import expected_calibration_error, reliability_bins
from instructclf.exceptions import InvalidLabelsError


def slow_error(confidence, correct, n_bins):
    """Go through the bins one by one, as the formula is written."""
    error = 0.0
    for b in range(n_bins):
        low, high = b / n_bins, (b + 1) / n_bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (b == 0 and c == 0)]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(accuracy - sure)
    return error


@pytest.mark.parametrize("n_bins", [1, 4, 16])
def test_error_is_that_of_a_simple_loop(n_bins):
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.random(200), [0, 0.25, 0.5, 1]])
    correct = rng.random(204) < confidence
    expected = slow_error(confidence.tolist(), correct.tolist(), n_bins)
    assert expected_calibration_error(confidence, correct, n_bins) == pytest.approx(expected)


def test_known_errors():
    assert expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 4, [1, 1, 1, 0]) == pytest.approx(0.25)
    assert expected_calibration_error([0.9, 0.9, 0.6], [1, 0, 1]) == pytest.approx(
        2 / 3 * 0.4 + 1 / 3 * 0.4
    )


def test_empty_bins_are_counted_and_have_no_means():
    bins = reliability_bins([0.9, 0.95, 0.2], [True, False, False], 4)
    assert bins.counts.tolist() == [1, 0, 0, 2]
    assert_allclose(bins.confidence, [0.2, np.nan, np.nan, 0.925])
    assert_allclose(bins.accuracy, [0, np.nan, np.nan, 0.5])
    assert_allclose(bins.edges, [0, 0.25, 0.5, 0.75, 1])


def test_sets_are_counted_one_by_one():
    rng, classes = np.random.default_rng(0), ["a", "b", "c", "d"]
    sets, labels = rng.random((50, 4)) < 0.4, rng.choice(["a", "c", "d", "e"], 50)
    members = [[name for name, is_in in zip(classes, row, strict=True) if is_in] for row in sets]
    contains = [label in inside for label, inside in zip(labels, members, strict=True)]
    assert set_coverage(labels, sets, classes=classes) == pytest.approx(np.mean(contains))
    assert mean_set_size(sets) == pytest.approx(np.mean([len(inside) for inside in members]))


def test_columns_of_sets_are_the_labels_in_order():
    assert set_coverage([3, 1], [[False, True], [False, True]]) == 0.5
    assert set_coverage([3, 1], [[False, True], [False, True]], classes=[3, 1]) == 0.5
    assert set_coverage([3, 3], [[False, True], [False, True]], classes=[1, 3]) == 1


@pytest.mark.parametrize(
    "sets", [[[0.9, 0.1]], [[1, 0]], [True, False]], ids=["probabilities", "numbers", "one row"]
)
def test_sets_of_another_kind_are_refused(sets):
    for metric in (mean_set_size, lambda sets: set_coverage(["a", "b"], sets)):
        with pytest.raises(
            InvalidParameterError, match="'sets' parameter must be an array of bool"
        ):
            metric(sets)


def test_sets_that_do_not_fit_the_labels_are_refused():
    with pytest.raises(InvalidLabelsError, match=r"Sets must be of shape \(2, 2\).* \(2, 3\)"):
        set_coverage(["a", "b"], np.ones((2, 3), dtype=bool))
    with pytest.raises(InvalidLabelsError, match="No label in y_true is one of the classes"):
        set_coverage(["a", "b"], np.ones((2, 2), dtype=bool), classes=[0, 1])
