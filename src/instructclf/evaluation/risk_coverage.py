"""Right answers and probabilities → what part of the texts gets a label, and how many are wrong.

Confidence is the probability of the likeliest label. A threshold on it divides texts into those
that get this label and those that stay without one. Coverage is the share of the first; risk is the
share of wrong labels among them.
"""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation.metrics import read_predictions


class RiskCoverageCurve(NamedTuple):
    """Risk over coverage, from the highest threshold to the lowest.

    Attributes
    ----------
    coverage : ndarray of shape (n_thresholds,)
        The share of texts that get a label, up to 1.
    risk : ndarray of shape (n_thresholds,)
        The share of wrong labels among them.
    thresholds : ndarray of shape (n_thresholds,)
        The smallest confidence of a text that gets a label, all different.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def risk_coverage_curve(
    y_true: ArrayLike, probabilities: ArrayLike, *, classes: ArrayLike | None = None
) -> RiskCoverageCurve:
    """Return the risk and the coverage at every threshold on the confidence.

    Source: El-Yaniv and Wiener, "On the foundations of noise-free selective classification" (JMLR
    11, 2010).

    Parameters
    ----------
    y_true : array-like of shape (n_texts,)
        The true labels.
    probabilities : array-like of shape (n_texts, n_classes)
        The probability of each label. Of two classes that of the second is enough.
    classes : array-like of shape (n_classes,) or None, default=None
        The labels of the columns. ``None`` takes those of ``y_true``, sorted.

    Returns
    -------
    RiskCoverageCurve
        ``coverage``, ``risk`` and ``thresholds``, each of shape (n_thresholds,).

    Raises
    ------
    InvalidLabelsError
        If there are no labels, no label is a class, or the shapes do not fit.
    InvalidParameterError
        If a probability is not between 0 and 1.

    Examples
    --------
    >>> from instructclf.evaluation import risk_coverage_curve
    >>> curve = risk_coverage_curve(["n", "p", "n", "p"], [0.1, 0.8, 0.7, 0.6])
    >>> curve.coverage.tolist()
    [0.25, 0.5, 0.75, 1.0]
    >>> curve.risk.round(2).tolist()
    [0.0, 0.0, 0.33, 0.25]
    """
    return curve_of(*read_predictions(y_true, probabilities, classes))


def curve_of(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> RiskCoverageCurve:
    """Return the curve of texts with these confidences, of which these are right."""
    thresholds, counts, wrong = _group(confidence, correct)
    decided = np.cumsum(counts)
    return RiskCoverageCurve(decided / len(correct), np.cumsum(wrong) / decided, thresholds)


def coverage_at_risk(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    *,
    risk: float = 0.05,
    classes: ArrayLike | None = None,
) -> float:
    """Return the largest share of texts that can be labelled at a risk, on these texts.

    The best threshold is chosen with the labels of the same texts, so the figure is for comparing
    classifiers. `instructclf.SelectiveClassifier` finds a threshold that holds for other texts.

    Parameters
    ----------
    y_true : array-like of shape (n_texts,)
        The true labels.
    probabilities : array-like of shape (n_texts, n_classes)
        The probability of each label. Of two classes that of the second is enough.
    risk : float, default=0.05
        The largest acceptable share of wrong labels among those that are given, from 0 to 1.
    classes : array-like of shape (n_classes,) or None, default=None
        The labels of the columns. ``None`` takes those of ``y_true``, sorted.

    Returns
    -------
    float
        The coverage, from 0 to 1.

    Raises
    ------
    InvalidLabelsError
        If there are no labels, no label is a class, or the shapes do not fit.
    InvalidParameterError
        If ``risk`` or a probability is not between 0 and 1.

    Examples
    --------
    >>> from instructclf.evaluation import coverage_at_risk
    >>> coverage_at_risk(["n", "p", "n", "p"], [0.1, 0.8, 0.7, 0.6], risk=0)
    0.5

    As a scorer of a search:

    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(coverage_at_risk, response_method="predict_proba", risk=0.05)
    """
    if not isinstance(risk, Real) or not 0 <= risk <= 1:
        msg = f"The 'risk' parameter must be a float from 0 to 1. Got {risk!r} instead."
        raise InvalidParameterError(msg)
    curve = risk_coverage_curve(y_true, probabilities, classes=classes)
    return float(np.max(curve.coverage, where=curve.risk <= risk, initial=0))


def area_under_risk_coverage(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    *,
    excess: bool = False,
    classes: ArrayLike | None = None,
) -> float:
    """Return the mean risk over all coverages, AURC. Less is better.

    It is ``1/n Σ_k r_k``, where ``r_k`` is the risk among the ``k`` texts of the largest
    confidence (Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural
    classifiers", ICLR 2019). Texts of equal confidence count as in random order.

    Parameters
    ----------
    y_true : array-like of shape (n_texts,)
        The true labels.
    probabilities : array-like of shape (n_texts, n_classes)
        The probability of each label. Of two classes that of the second is enough.
    excess : bool, default=False
        Whether to subtract the least possible area with as many errors, where all right answers
        are more confident than all wrong ones. The rest, E-AURC, tells how well the confidence
        ranks the answers, and 0 is perfect.
    classes : array-like of shape (n_classes,) or None, default=None
        The labels of the columns. ``None`` takes those of ``y_true``, sorted.

    Returns
    -------
    float
        The area, from 0 to 1.

    Raises
    ------
    InvalidLabelsError
        If there are no labels, no label is a class, or the shapes do not fit.
    InvalidParameterError
        If a probability is not between 0 and 1.

    Examples
    --------
    >>> from instructclf.evaluation import area_under_risk_coverage
    >>> truth, probabilities = ["n", "p", "n", "p"], [0.1, 0.8, 0.7, 0.6]
    >>> round(area_under_risk_coverage(truth, probabilities), 3)
    0.146
    >>> round(area_under_risk_coverage(truth, probabilities, excess=True), 3)
    0.083

    As a scorer of a search:

    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(
    ...     area_under_risk_coverage, response_method="predict_proba", greater_is_better=False
    ... )
    """
    confidence, correct = read_predictions(y_true, probabilities, classes)
    return area_of(confidence, correct) - excess * area_of(correct.astype(float), correct)


def area_of(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Return the mean risk over all coverages of texts with these confidences."""
    _, counts, wrong = _group(confidence, correct)
    expected_errors = np.cumsum(np.repeat(wrong / counts, counts))
    return float(np.mean(expected_errors / np.arange(1, len(correct) + 1)))


def _group(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Return all confidences, from the largest, with their numbers of texts and wrong answers."""
    levels, codes, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(codes[~correct], minlength=len(levels))
    return levels[::-1], counts[::-1], wrong[::-1]
