"""What several classifiers say of held-out rows → how much each of them counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PSEUDO_ROWS = 2.0
"""How many rows each classifier is taken to explain before any are seen. Few rows then leave all
weights near equal, and many rows move them anywhere."""
_LEAST_WEIGHT = 0.05
"""A classifier of less weight hardly changes an answer, and is left out."""
_MOST_STEPS, _TOLERANCE = 1000, 1e-9


def find_weights(
    likelihoods: NDArray[np.float64], row_weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the most probable weights of a mixture of classifiers.

    Maximises ``Σ_i r_i log Σ_m w_m p_im + a Σ_m log w_m`` over weights that are at least 0 and sum
    to 1, by expectation maximisation. Small weights then become 0.

    Parameters
    ----------
    likelihoods : ndarray of shape (n_rows, n_classifiers)
        The probability that each classifier gives to the right label of each row.
    row_weights : ndarray of shape (n_rows,) or None, default=None
        How much each row counts, relative to the mean. ``None`` for all alike.

    Returns
    -------
    ndarray of shape (n_classifiers,)
        The weights. They sum to 1.
    """
    n_rows, n_classifiers = likelihoods.shape
    counts = np.ones(n_rows) if row_weights is None else row_weights / row_weights.mean()
    weights = np.full(n_classifiers, 1 / n_classifiers)
    for _ in range(_MOST_STEPS):
        shares = weights * likelihoods
        explained = counts @ (shares / shares.sum(axis=1, keepdims=True)) + _PSEUDO_ROWS
        before, weights = weights, explained / explained.sum()
        if np.abs(weights - before).max() < _TOLERANCE:
            break
    weights = np.where(weights < min(_LEAST_WEIGHT, weights.max()), 0.0, weights)
    return weights / weights.sum()


def choose_best(
    likelihoods: NDArray[np.float64], row_weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the weight 1 for the classifier with the largest likelihood of all rows, else 0."""
    counts = np.ones(len(likelihoods)) if row_weights is None else row_weights
    best = (counts @ np.log(likelihoods)).argmax()
    return np.eye(likelihoods.shape[1])[best]
