"""Right answers and probabilities → the scores of classifiers, and how well they are calibrated."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import InvalidParameterError

SCORINGS = ("accuracy", "balanced_accuracy")
"""The kinds of scores, by scikit-learn's names."""


def answer_weights(y_test: NDArray[Any], scoring: str) -> NDArray[np.float64]:
    """Return the weight of each right answer, of shape (n_test,). Their mean is 1.

    With ``"balanced_accuracy"`` all labels have the same weight: the score is the mean over labels
    of the share of their texts that are right.
    """
    if scoring == "accuracy":
        return np.ones(len(y_test))
    _, codes, counts = np.unique(y_test, return_inverse=True, return_counts=True)
    return len(y_test) / (len(counts) * counts[codes])


def name_scoring(scoring: str) -> str:
    """Return a kind of score in words, for tables and pictures."""
    return scoring.replace("_", " ")


def write_scoring(scoring: str) -> str:
    """Return the prefix that names the kind of a score, empty for accuracies."""
    return "" if scoring == "accuracy" else f"{name_scoring(scoring)} "


def note_two_seeds(counts: Iterable[int]) -> str:
    """Return a sentence about intervals from two seeds, empty if there are none."""
    if 2 not in counts:
        return ""
    return "Two seeds make wide intervals, at worst from 0 to 1: five or more narrow them."


def normalise(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct the rounding errors of exp and log, which make scikit-learn's log_loss warn."""
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def check_same_scoring(one: str, other: str) -> None:
    """Raise an error if scores are of two kinds and cannot be compared."""
    if one != other:
        msg = (
            "Only scores of one kind can be compared. The 'scoring' parameter was "
            f"{one!r} for the first and {other!r} for the second."
        )
        raise InvalidParameterError(msg)


class ReliabilityBins(NamedTuple):
    """Predictions sorted into bins of equal width by their confidence.

    Parameters
    ----------
    edges : ndarray of shape (n_bins + 1,)
        The limits of the bins, from 0 to 1.
    counts : ndarray of shape (n_bins,)
        The number of predictions in each bin.
    confidence : ndarray of shape (n_bins,)
        Their mean confidence, NaN in an empty bin.
    accuracy : ndarray of shape (n_bins,)
        The share of right predictions, NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.intp]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, n_bins: int) -> ReliabilityBins:
    """Sort predictions into bins of equal width by their confidence."""
    if not isinstance(n_bins, Integral) or n_bins < 1:
        msg = f"The 'n_bins' parameter must be an int of 1 or more. Got {n_bins!r} instead."
        raise InvalidParameterError(msg)
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    edges = np.linspace(0, 1, n_bins + 1)
    codes = np.searchsorted(edges[1:-1], sure, side="left")
    counts = np.bincount(codes, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        means = [np.bincount(codes, of, minlength=n_bins) / counts for of in (sure, right)]
    return ReliabilityBins(edges, counts, *means)


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, n_bins: int = 15
) -> float:
    """Return the mean difference between confidence and accuracy over the predictions.

    ``Σ_b n_b/n · |accuracy_b - confidence_b|`` over bins of equal width (Naeini et al., AAAI 2015;
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, with 15 bins).
    """
    bins = reliability_bins(confidence, correct, n_bins)
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(bins.counts * gaps) / bins.counts.sum())
