"""Probabilities → accuracy over confidence: whether 90 % confident answers are 90 % right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructclf.evaluation.displays.axes import (
    MARKERS,
    Display,
    colours,
    legend_label,
    quiet_grid,
    text_colour,
)
from instructclf.evaluation.metrics import (
    expected_calibration_error,
    read_predictions,
    reliability_bins,
)
from instructclf.evaluation.scores import SeedScores

_LARGEST = 300  # area of the largest dot, in square points


class Answers(NamedTuple):
    """The confidence of an approach's answers, and which are right.

    Parameters
    ----------
    confidence : ndarray of shape (n_answers,)
        The probability of the likeliest label.
    correct : ndarray of shape (n_answers,)
        Whether this label is the true one.
    error : float
        The expected calibration error.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    error: float


class ReliabilityDisplay(Display):
    """Accuracy over confidence, in bins; a calibrated classifier lies on the diagonal.

    Dots below the diagonal mean overconfidence. The size of a dot shows the answers in its bin.
    scikit-learn's ``CalibrationDisplay`` shows one class of two; this shows the likeliest of all.
    Make one with `from_scores` or `from_predictions`.

    Parameters
    ----------
    answers : dict of str to Answers
        Confidence, right answers and calibration error of each approach.
    n_bins : int, default=10
        The number of bins between 0 and 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes it is drawn on.
    figure_ : matplotlib Figure
        Their figure.
    """

    def __init__(self, answers: Mapping[str, Answers], *, n_bins: int = 10) -> None:
        self.answers = answers
        self.n_bins = n_bins

    @classmethod
    def from_scores(
        cls,
        scores: SeedScores | Mapping[str, SeedScores],
        *,
        n_bins: int = 10,
        ax: Any = None,
    ) -> Self:
        """Draw the answers under all seeds together.

        Parameters
        ----------
        scores : SeedScores or dict of str to SeedScores
            Scores with probabilities, or the name of each approach and its scores.
        n_bins : int, default=10
            The number of bins between 0 and 1.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        ReliabilityDisplay
            The display. Its calibration error is `SeedScores.calibration_error`.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        AttributeError
            If an estimator has no probabilities.
        """
        named = {"": scores} if isinstance(scores, SeedScores) else scores
        answers = {
            name: Answers(
                one.confidence.ravel(), one.likeliest_correct.ravel(), one.calibration_error()
            )
            for name, one in named.items()
        }
        return cls(answers, n_bins=n_bins).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        classes: ArrayLike,
        n_bins: int = 10,
        ax: Any = None,
    ) -> Self:
        """Draw the result of ``predict_proba``.

        Parameters
        ----------
        y_true : array-like of shape (n_texts,)
            The true labels.
        probabilities : array-like of shape (n_texts, n_classes)
            The probability of each label.
        classes : array-like of shape (n_classes,)
            The labels of the columns.
        n_bins : int, default=10
            The number of bins between 0 and 1.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        ReliabilityDisplay
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
        confidence, correct = read_predictions(y_true, probabilities, classes)
        error = expected_calibration_error(confidence, correct)
        return cls({"": Answers(confidence, correct, error)}, n_bins=n_bins).plot(ax)

    def _figsize(self) -> tuple[float, float]:
        return 4.8, 4.8

    def _draw(self) -> None:
        ink = text_colour(self.ax_)
        self.ax_.plot([0, 1], [0, 1], color=ink, linestyle="--", alpha=0.6, label="perfect")
        shades = colours(self.ax_, len(self.answers))
        for n, (name, answers) in enumerate(self.answers.items()):
            self._draw_bins(name, answers, shades[n], MARKERS[n % len(MARKERS)])
        least = min(answers.confidence.min() for answers in self.answers.values())
        start = np.floor(least * self.n_bins) / self.n_bins
        self.ax_.set(xlim=(start - 0.03, 1.03), ylim=(-0.03, 1.03))
        self.ax_.set(xlabel="confidence", ylabel="accuracy")
        quiet_grid(self.ax_, "both")

    def _draw_bins(self, name: str, answers: Answers, colour: Any, marker: str) -> None:
        bins = reliability_bins(answers.confidence, answers.correct, self.n_bins)
        filled = bins.counts > 0
        confidence, accuracy = bins.confidence[filled], bins.accuracy[filled]
        areas = np.maximum(_LARGEST * bins.counts[filled] / bins.counts.sum(), 8)
        error = f"calibration error {answers.error:.3f}"
        label = f"{name} ({error.removeprefix('calibration ')})" if name else error
        self.ax_.vlines(confidence, accuracy, confidence, color=colour, alpha=0.5, linewidth=1)
        self.ax_.scatter(confidence, accuracy, s=areas, color=colour, alpha=0.75, marker=marker)
        shown = {"color": colour, "marker": marker, "linestyle": "none"}
        self.ax_.plot([], [], label=legend_label(label), **shown)
