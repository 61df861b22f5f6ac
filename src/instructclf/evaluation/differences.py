"""Two approaches on the same texts → their difference, its interval and its p-value."""

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
    """The difference between two approaches, paired by seed and by text.

    Parameters
    ----------
    difference : float
        Mean score of the first minus that of the second.
    interval : Interval
        The interval of the difference, for other seeds and other texts of the same kind.
    p_value : float
        The probability of such a difference, or a larger one, between equal approaches. Two-sided.
    n_first : int
        The number of pairs of seed and text for which only the first approach is right.
    n_second : int
        The number of pairs for which only the second approach is right.
    confidence : float
        The confidence of the interval.

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
        """Return the number of pairs for which only one approach is right, as McNemar counts."""
        return self.n_first + self.n_second

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {self.p_value:.3g}; "
            f"answers that only one gets right: {self.n_first:,} to {self.n_second:,}"
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
    """Compare two matrices of right answers."""
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
    """Adjust p-values for their number (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
