"""Labelled rows → the bias and temperature that make their scores probabilities.

The bias of a label is its mean log-likelihood over labelled texts, with each class counted alike
(Bhatt and Ivanova, "RBCorr", 2026). Estimated in ``fit``, it depends on no test row, and the answer
for a text depends on no other text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from instructclf.calibration.calibrations import (
    Calibration,
    Evidence,
    log_softmax,
    no_calibration,
)
from instructclf.calibration.chance import warn_at_chance

_PRIOR_SCALE = 2.0
"""Scale of the logarithm of the temperature: how far a few rows move it without strong evidence."""
_TEMPERATURES = np.exp(np.arange(-184, 185) / 80)  # 1 is one of them, exactly


class LabelledRowsCalibrator(BaseEstimator):
    """Estimate bias and temperature from labelled rows that the classifier has not learned from.

    It scores rows that are not shots, the same number of each class. Without such rows, it scores
    each shot after a prompt that holds the others.

    Parameters
    ----------
    standard_error : float, default=0.125
        How precise the bias shall be: its standard error, as a share of the spread of a label's
        scores within a class. That takes ``1 / (n_classes * standard_error**2)`` rows of each
        class, 32 of two and 6 of eleven, and at least 2. Half of it takes four times as many, and
        four times as long.

    Examples
    --------
    >>> from instructclf.calibration import LabelledRowsCalibrator
    >>> LabelledRowsCalibrator(standard_error=0.1)
    LabelledRowsCalibrator(standard_error=0.1)
    """

    def __init__(self, standard_error: float = 0.125) -> None:
        self.standard_error = standard_error

    def calibrate(self, evidence: Evidence, rng: np.random.RandomState) -> Calibration:
        """Return the calibration, or one that only normalises if there are too few rows.

        Parameters
        ----------
        evidence : Evidence
            The rows of ``fit``, and what the fitted prompt says about texts.
        rng : RandomState
            Decides which rows are drawn.

        Returns
        -------
        Calibration
            The estimate.

        Warns
        -----
        ChanceLevelWarning
            If rows that are not shots are labelled no better than by chance.
        """
        texts, codes, shots = evidence.texts, evidence.codes, evidence.shots
        n_each = rows_per_class(evidence.n_classes, self.standard_error)
        rows = held_out_rows(texts, codes, shots, rng, n_each)
        if len(rows):
            scores = evidence.score([texts[i] for i in rows], relative=True)
            calibration = fit_calibration(scores, codes[rows])
            if len(np.unique(codes[rows])) > 1:  # rows of one label say nothing about the others
                chosen = calibration.log_probabilities(scores).argmax(axis=1)
                warn_at_chance(chosen, codes[rows], evidence)
            return calibration
        scores = evidence.score_shots(relative=True)
        if scores is None:
            return no_calibration(evidence.n_classes)
        return fit_calibration(scores, codes[shots])


def rows_per_class(n_classes: int, standard_error: float) -> int:
    """Return how many rows of each class give a bias this standard error, at least 2.

    The bias of a label is the mean of K means over n rows, each with the spread of a score within a
    class. So its standard error is that spread divided by the root of n K.
    """
    return max(2, ceil(1 / (n_classes * standard_error**2)))


def held_out_rows(
    texts: Sequence[str],
    codes: NDArray[np.intp],
    shots: Iterable[int],
    rng: np.random.RandomState,
    most_each: int,
) -> NDArray[np.intp]:
    """Return rows whose text is no shot, the same number of each class.

    Returns none if a class has fewer than two, which an estimate of the spread takes.
    """
    shown = {texts[i] for i in shots}
    rest = np.array([i for i, text in enumerate(texts) if text not in shown], dtype=np.intp)
    groups = [rng.permutation(rest[codes[rest] == code]) for code in np.unique(codes)]
    n_each = min(map(len, groups), default=0)
    if n_each < 2:
        return np.empty(0, dtype=np.intp)
    return np.concatenate([group[: min(n_each, most_each)] for group in groups])


def fit_calibration(scores: NDArray[np.float64], codes: NDArray[np.intp]) -> Calibration:
    """Estimate bias and temperature from labelled rows.

    The bias is shrunk towards 0 by ``max(0, 1 - (K - 1) s² / ‖b‖²)``, where s² is the mean squared
    standard error of its K components. This removes what noise alone would give.

    The temperature is the most probable one between 0.1 and 10, for labels that are right with the
    probability (n + 1) / (n + 2) of n rows. So a few rows that are all answered rightly do not make
    the classifier sure of everything (Platt, "Probabilistic Outputs for Support Vector Machines",
    1999). The prior of its logarithm is a wide Cauchy distribution around 0 (on such priors: Gelman
    et al., "A Weakly Informative Default Prior Distribution for Logistic and Other Regression
    Models", Annals of Applied Statistics, 2008).
    """
    n_rows, n_classes = scores.shape
    present = np.unique(codes)
    if n_rows <= len(present) or len(present) < n_classes:
        # Nothing tells bias from noise, or some label's rows are missing, which would be bias.
        return no_calibration(n_classes)
    relative = scores - scores.mean(axis=1, keepdims=True)
    means = np.array([relative[codes == code].mean(axis=0) for code in present])
    bias = _shrink(means.mean(axis=0), _squared_error(relative, means, codes, present))
    return Calibration(bias, fit_temperature(scores - bias, codes), n_rows)


def _squared_error(
    relative: NDArray[np.float64],
    means: NDArray[np.float64],
    codes: NDArray[np.intp],
    present: NDArray[np.intp],
) -> float:
    """Return the bias components' mean squared standard error, from the spread within classes."""
    residuals = relative - means[np.searchsorted(present, codes)]
    variance = (residuals**2).sum(axis=0) / (len(codes) - len(present))
    counts = np.array([(codes == code).sum() for code in present])
    return float((variance * (1.0 / counts).sum() / len(present) ** 2).mean())


def _shrink(bias: NDArray[np.float64], squared_error: float) -> NDArray[np.float64]:
    squared_length = float(bias @ bias)
    if squared_length == 0:
        return bias
    return bias * max(0.0, 1.0 - (len(bias) - 1) * squared_error / squared_length)


def fit_temperature(
    scores: NDArray[np.float64],
    codes: NDArray[np.intp],
    row_weights: NDArray[np.float64] | None = None,
) -> float:
    """Return the most probable temperature, as `fit_calibration` describes.

    Row weights say how much each row counts, relative to their mean.
    """
    n_rows, n_classes = scores.shape
    counts = np.ones(n_rows) if row_weights is None else row_weights / row_weights.mean()
    targets = np.full(scores.shape, 1 / (n_rows + 2) / (n_classes - 1))
    targets[np.arange(n_rows), codes] = (n_rows + 1) / (n_rows + 2)
    likelihoods = [counts @ (targets * log_softmax(scores / t)).sum(axis=1) for t in _TEMPERATURES]
    losses = np.log1p((np.log(_TEMPERATURES) / _PRIOR_SCALE) ** 2) - likelihoods
    return float(_TEMPERATURES[int(np.argmin(losses))])
