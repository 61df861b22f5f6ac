"""Scores under many seeds → the gain and the spread of averages over some of them.

Averages that have seeds in common are alike, and would understate the spread. So it is measured
between pairs of averages without common seeds: half the mean squared difference is their variance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from instructclf.evaluation import SeedScores
from instructclf.evaluation.metrics import answer_weights

SIZES = (2, 5, 10)
_N_DRAWS = 100


def compare_averages(scores: SeedScores) -> list[dict[str, Any]]:
    """Return the effect of averaging, for each number of seeds that two disjoint averages can have.

    Parameters
    ----------
    scores : SeedScores
        With log-probabilities, under as many seeds as there are.

    Returns
    -------
    list of dict
        The score and its standard deviation over seeds, of one seed and of an average, and the
        difference of the scores with a 95 % jackknife interval over seeds.
    """
    n_seeds = scores.n_seeds
    return [_compare(scores, size) for size in SIZES if 2 * size <= n_seeds]


def _compare(scores: SeedScores, size: int) -> dict[str, Any]:
    matrix = np.asarray(scores.log_probabilities)
    truth = np.searchsorted(np.asarray(scores.classes), scores.y_test)
    singles = scores.scores
    weights = answer_weights(scores.y_test, scores.scoring)
    pairs = disjoint_scores(matrix, truth, size, weights)
    gain = float(pairs.mean() - singles.mean())
    half = _half_width(matrix, truth, singles, size, weights)
    return {
        "n_averaged": size,
        "single_accuracy": float(singles.mean()),
        "single_std": float(singles.std(ddof=1)),
        "accuracy": float(pairs.mean()),
        "std": spread(pairs),
        "difference": gain,
        "low": None if half is None else gain - half,
        "high": None if half is None else gain + half,
    }


def disjoint_scores(
    matrix: NDArray[np.float64], truth: NDArray[np.intp], size: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return scores of pairs of averages without common seeds, of shape (n_draws, 2)."""
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(len(matrix))[: 2 * size].reshape(2, size) for _ in range(_N_DRAWS)]
    return np.array(
        [
            [np.mean(weights * (matrix[g].mean(axis=0).argmax(axis=1) == truth)) for g in pair]
            for pair in drawn
        ]
    )


def spread(pairs: NDArray[np.float64]) -> float:
    """Return the standard deviation of an average, from pairs of independent ones."""
    return float(np.sqrt(np.mean(np.diff(pairs, axis=1) ** 2) / 2))


def _half_width(
    matrix: NDArray[np.float64],
    truth: NDArray[np.intp],
    singles: NDArray[np.float64],
    size: int,
    weights: NDArray[np.float64],
) -> float | None:
    """Return half the jackknife interval of a gain: every seed left out once."""
    n_seeds = len(matrix)
    if 2 * size > n_seeds - 1:
        size = (n_seeds - 1) // 2  # one seed less leaves no two averages of this size
    if size < 2:
        return None
    left = [np.delete(np.arange(n_seeds), seed) for seed in range(n_seeds)]
    gains = [
        disjoint_scores(matrix[k], truth, size, weights).mean() - singles[k].mean() for k in left
    ]
    variance = (n_seeds - 1) ** 2 / n_seeds * float(np.var(gains, ddof=1))
    return float(stdtrit(n_seeds - 1, 0.975)) * variance**0.5
