"""Scores → intervals and p-values that treat both seeds and texts as random draws.

Another draw of shots gives another score, and so does another test set. An interval over seeds
alone is valid for this test set only.
"""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit
from sklearn.utils._param_validation import InvalidParameterError

_BLOCK = 2**22  # resampled texts held in memory at once: 32 MiB


class Interval(NamedTuple):
    """The two ends of an interval.

    Attributes
    ----------
    low : float
        The lower end.
    high : float
        The upper end.
    """

    low: float
    high: float

    def within(self, least: float, most: float) -> Interval:
        """Return the part between two limits: 0 and 1 for shares, -1 and 1 for their differences.

        The interval of a few very different scores can exceed these limits. The part contains the
        true value as often.

        Parameters
        ----------
        least, most : float
            The limits.

        Returns
        -------
        Interval
            The part.
        """
        return Interval(*(min(max(end, least), most) for end in self))


def t_interval(
    values: ArrayLike, confidence: float = 0.95, *, test_to_train: float = 0.0
) -> Interval:
    """Return Student's interval of a mean, optionally corrected for shared training rows.

    Parameters
    ----------
    values : array-like of shape (n_values,)
        Scores, or differences.
    confidence : float, default=0.95
        The share of such intervals that hold the true mean.
    test_to_train : float, default=0.0
        Test rows per training row. Above 0 the variance is that of Nadeau and Bengio, "Inference
        for the Generalization Error" (Machine Learning 52, 2003): ``1/n_values + test_to_train``
        in place of ``1/n_values``, because folds share most of their training rows.

    Returns
    -------
    Interval
        Both ends, NaN for fewer than two values.
    """
    check_confidence(confidence)
    mean, error, degrees = _standard_error(values, test_to_train)
    if degrees < 1:
        return Interval(float("nan"), float("nan"))
    half = float(stdtrit(degrees, (1 + confidence) / 2)) * error
    return Interval(mean - half, mean + half)


def t_p_value(values: ArrayLike, *, test_to_train: float = 0.0) -> float:
    """Return the two-sided p-value of a mean of zero, with the variance of ``t_interval``."""
    mean, error, degrees = _standard_error(values, test_to_train)
    if degrees < 1:
        return float("nan")
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(degrees, -abs(mean) / error))


def _standard_error(values: ArrayLike, test_to_train: float) -> tuple[float, float, int]:
    """Return the mean, its standard error and the degrees of freedom."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return float(array.mean()), float("nan"), 0
    variance = (1 / len(array) + test_to_train) * array.var(ddof=1)
    return float(array.mean()), float(np.sqrt(variance)), len(array) - 1


def resample_means(
    values: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 2000,
    random_state: int | None = 0,
) -> NDArray[np.float64]:
    """Resample the mean of a (seed, text) matrix, for other seeds and other texts.

    With one seed only texts are resampled, and the means tell nothing about other seeds. With
    ``groups``, every resample has the same number of texts of each label, because a score over
    labels takes these numbers as fixed.

    This is the crossed or "pigeonhole" bootstrap (Owen, Annals of Applied Statistics 1(2), 2007):
    rows and columns are resampled with replacement, independently. Its intervals are conservative.

    Resampling a few seeds underestimates their spread: in simulation, 95 % intervals of five seeds
    hold the true value in 88 % of cases. Therefore the deviation of each resampled mean that comes
    from its seeds is multiplied by √(n / χ²), where χ² is drawn with n - 1 degrees of freedom. This
    gives it the tails of Student's t, and 95 % or more of the cases; with many seeds the factor
    approaches 1.
    """
    matrix = np.asarray(values, dtype=float)
    n_seeds, n_texts = matrix.shape
    rng = np.random.default_rng(random_state)
    seeds = rng.integers(n_seeds, size=(n_resamples, n_seeds))
    size = max(1, _BLOCK // n_texts)
    members = _members(n_texts, groups)
    means = [
        crossed_means(matrix, block, _draw_texts(members, len(block), rng))
        for block in np.split(seeds, range(size, n_resamples, size))
    ]
    if n_seeds == 1:
        return np.concatenate(means)
    widening = np.sqrt(n_seeds / rng.chisquare(n_seeds - 1, size=n_resamples)) - 1
    of_seeds = matrix.mean(axis=1)
    return np.concatenate(means) + widening * (of_seeds[seeds].mean(axis=1) - of_seeds.mean())


def _members(n_texts: int, groups: ArrayLike | None) -> list[NDArray[np.intp]]:
    """Return the sets of texts that are resampled within: all texts, or those of each group."""
    if groups is None:
        return [np.arange(n_texts)]
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    return [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]


def _draw_texts(
    members: list[NDArray[np.intp]], n_draws: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the texts of each resample, of shape (n_draws, n_texts)."""
    drawn = [group[rng.integers(len(group), size=(n_draws, len(group)))] for group in members]
    return np.concatenate(drawn, axis=1)


def crossed_means(
    matrix: NDArray[np.float64], seeds: NDArray[np.intp], texts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the mean over resampled rows and columns, of shape (n_resamples,)."""
    weights = np.zeros((len(seeds), len(matrix)))
    np.add.at(weights, (np.arange(len(seeds))[:, np.newaxis], seeds), 1 / seeds.shape[1])
    return np.take_along_axis(weights @ matrix, texts, axis=1).mean(axis=1)


def percentile_interval(draws: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """Return the interval with equal shares of the resampled means on both sides."""
    check_confidence(confidence)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def check_confidence(confidence: float) -> None:
    """Raise scikit-learn's error unless this is a number between 0 and 1."""
    if not isinstance(confidence, Real) or not 0 < confidence < 1:
        msg = (
            "The 'confidence' parameter must be a float between 0 and 1, such as 0.95. "
            f"Got {confidence!r} instead."
        )
        raise InvalidParameterError(msg)


def bootstrap_p_value(draws: NDArray[np.float64]) -> float:
    """Return twice the share of the resampled means on the rarer side of zero, and never 0.

    It is below 0.05 if the 95 % percentile interval of the same means excludes zero. One is added
    to numerator and denominator (Davison and Hinkley, "Bootstrap Methods and their Application",
    1997), because no number of resamples shows that something is impossible.
    """
    rarer = min(np.sum(draws <= 0), np.sum(draws >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (len(draws) + 1)))
