"""Probabilities → risk over coverage: how many labels are wrong if only the surest are given."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from instructclf.evaluation.displays.axes import Display, legend_label, quiet_grid, text_colour
from instructclf.evaluation.metrics import read_predictions
from instructclf.evaluation.risk_coverage import area_of, curve_of


class RiskCoverageDisplay(Display):
    """Risk over coverage: the share of wrong labels if only the surest texts get one.

    A good confidence has a curve that stays low and rises at the end, near the dashed line, which
    is the lowest possible with as many errors. At a coverage of 1 the risk is the error rate. The
    left end of the curve rests on few texts. Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    confidence : ndarray of shape (n_texts,)
        The probability of the likeliest label of each text.
    correct : ndarray of shape (n_texts,)
        Whether this label is the true one.
    name : str or None, default=None
        The name of the classifier in the legend.
    threshold : float or None, default=None
        The confidence above which texts get a label, which is marked on the curve.
    risk : float or None, default=None
        The risk that was stated, a dotted line.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes it is drawn on.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    risk_coverage_curve : The figures.
    instructclf.SelectiveClassifier : Learns a threshold for a stated risk.
    """

    def __init__(
        self,
        confidence: NDArray[np.float64],
        correct: NDArray[np.bool_],
        *,
        name: str | None = None,
        threshold: float | None = None,
        risk: float | None = None,
    ) -> None:
        self.confidence = confidence
        self.correct = correct
        self.name = name
        self.threshold = threshold
        self.risk = risk

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, name: str | None = None, ax: Any = None
    ) -> Self:
        """Draw what a fitted classifier predicts.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier with ``predict_proba``. Of a `SelectiveClassifier` the stated risk
            and the learned threshold are shown too.
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their true labels.
        name : str or None, default=None
            The name in the legend. ``None`` takes the name of its class.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure. To compare classifiers, draw them on the
            same axes.

        Returns
        -------
        RiskCoverageDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        NotFittedError
            If the classifier is not fitted.
        InvalidLabelsError
            If no label is a class, or labels do not fit the texts.
        """
        check_is_fitted(estimator)
        answers = read_predictions(y, estimator.predict_proba(X), estimator.classes_)
        display = cls(
            *answers,
            name=type(estimator).__name__ if name is None else name,
            threshold=getattr(estimator, "threshold_", None),
            risk=getattr(estimator, "risk", None),
        )
        return display.plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the result of ``predict_proba``.

        Parameters
        ----------
        y_true : array-like of shape (n_texts,)
            The true labels.
        probabilities : array-like of shape (n_texts, n_classes)
            The probability of each label. Of two classes that of the second is enough.
        classes : array-like of shape (n_classes,) or None, default=None
            The labels of the columns. ``None`` takes those of ``y_true``, sorted.
        name : str or None, default=None
            The name in the legend.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        RiskCoverageDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        InvalidLabelsError
            If there are no labels, no label is a class, or the shapes do not fit.
        InvalidParameterError
            If a probability is not between 0 and 1.
        """
        return cls(*read_predictions(y_true, probabilities, classes), name=name).plot(ax)

    def _draw(self) -> None:
        curve = curve_of(self.confidence, self.correct)
        area = f"area {area_of(self.confidence, self.correct):.3f}"
        label = f"{self.name} ({area})" if self.name else area
        (line,) = self.ax_.plot(
            curve.coverage, curve.risk, drawstyle="steps-pre", label=legend_label(label)
        )
        colour = line.get_color()
        least = curve_of(np.linspace(1, 0, len(self.correct)), np.sort(self.correct)[::-1])
        style = {"color": colour, "linestyle": "--", "alpha": 0.6, "linewidth": 1}
        self.ax_.plot(least.coverage, least.risk, label="least possible", **style)
        if self.risk is not None:
            ink = text_colour(self.ax_)
            self.ax_.axhline(self.risk, color=ink, linestyle=":", label=f"stated risk {self.risk}")
        decided = self.confidence > (np.inf if self.threshold is None else self.threshold)
        if decided.any():
            point = decided.mean(), np.mean(~self.correct[decided])
            self.ax_.plot(*point, "o", color=colour, label=f"threshold {self.threshold:.3f}")
        self.ax_.set(xlim=(0, 1.02), xlabel="coverage", ylabel="risk")
        self.ax_.set_ylim(bottom=0)
        quiet_grid(self.ax_, "both")
