"""True labels and a kind of score → the weight of each right answer, and the name of the kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import InvalidParameterError

SCORINGS = ("accuracy", "balanced_accuracy")
"""The kinds of scores, by scikit-learn's names."""


def answer_weights(y_test: NDArray[Any], scoring: str) -> NDArray[np.float64]:
    """Return the weight of each right answer. The mean weight over all texts is the score.

    Parameters
    ----------
    y_test : ndarray of shape (n_test,)
        The true labels.
    scoring : {"accuracy", "balanced_accuracy"}
        Whether all texts or all labels have the same weight. In the second case the score is the
        mean over labels of the share of their texts that are right.

    Returns
    -------
    ndarray of shape (n_test,)
        The weights, whose mean is 1.
    """
    if scoring == "accuracy":
        return np.ones(len(y_test))
    _, codes, counts = np.unique(y_test, return_inverse=True, return_counts=True)
    return len(y_test) / (len(counts) * counts[codes])


def name_scoring(scoring: str) -> str:
    """Return a kind of score in words, for tables and pictures."""
    return scoring.replace("_", " ")


def check_same_scoring(one: str, other: str) -> None:
    """Raise an error if scores are of two kinds and cannot be compared."""
    if one != other:
        msg = (
            "Only scores of one kind can be compared. The 'scoring' parameter was "
            f"{one!r} for the first and {other!r} for the second."
        )
        raise InvalidParameterError(msg)
