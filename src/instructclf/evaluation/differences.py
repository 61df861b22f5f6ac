"""Two approaches on the same texts → by how much they differ, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.evaluation.intervals import (
    Interval,
    bootstrap_p_value,
    percentile_interval,
    resample_means,
)


@dataclass(frozen=True)
class PairedDifference:
    """How much better one approach is than another, paired by seed and by text.

    Parameters
    ----------
    difference : float
        Mean score of the first minus that of the second.
    interval : Interval
        Where the difference lies, with other seeds and other texts of the same kind.
    p_value : float
        How often a difference like this, or a larger one, would come up if there were none.
        Two-sided.
    n_first : int
        Pairs of seed and text where the first alone is right.
    n_second : int
        Pairs where the second alone is right.
    confidence : float
        That of the interval.

    See Also
    --------
    SeedScores.compare : Makes one.
    """

    difference: float
    interval: Interval
    p_value: float
    n_first: int
    n_second: int
    confidence: float

    @property
    def n_discordant(self) -> int:
        """Return the number of pairs where one is right and the other wrong, as McNemar counts."""
        return self.n_first + self.n_second

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {self.p_value:.3g}; "
            f"{self.n_discordant:,} answers differ in being right: {self.n_first:,} to "
            f"{self.n_second:,}"
        )


def compare_correct(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    *,
    weights: NDArray[np.float64],
    groups: NDArray[Any] | None,
    confidence: float,
    n_resamples: int,
    random_state: int | None,
) -> PairedDifference:
    """Compare two matrices that say where an approach is right.

    Parameters
    ----------
    first, second : ndarray of shape (n_seeds, n_texts)
        Whether each answer is right. Either may have one seed, which then meets all of the other.
    weights : ndarray of shape (n_texts,)
        How much each right answer counts.
    groups : ndarray of shape (n_texts,) or None
        As for ``resample_means``.
    confidence : float
        That of the interval.
    n_resamples : int
        How many draws.
    random_state : int or None
        Decides the draws.

    Returns
    -------
    PairedDifference
        The first against the second.
    """
    differences = (first.astype(float) - second) * weights
    draws = resample_means(
        differences, groups=groups, n_resamples=n_resamples, random_state=random_state
    )
    return PairedDifference(
        difference=float(differences.mean()),
        interval=percentile_interval(draws, confidence).within(-1.0, 1.0),
        p_value=bootstrap_p_value(draws),
        n_first=int(np.sum(differences > 0)),
        n_second=int(np.sum(differences < 0)),
        confidence=confidence,
    )


def adjust_p_values(p_values: list[float]) -> list[float]:
    """Adjust p-values for their number, as Holm does (Scandinavian Journal of Statistics 6, 1979).

    Parameters
    ----------
    p_values : list of float
        One for each comparison.

    Returns
    -------
    list of float
        The adjusted ones, in the same order. Each may be held against the level as it is.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
