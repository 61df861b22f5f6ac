import numpy as np
import pytest
from numpy.testing import assert_allclose

from instructclf.evaluation.metrics import expected_calibration_error, reliability_bins


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
