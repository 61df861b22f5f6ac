"""A comparison → accuracy over seconds: what a better answer costs."""

from __future__ import annotations

from typing import Any, Self

from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation.comparison import ComparisonReport
from instructclf.evaluation.displays.axes import (
    MARKERS,
    colours,
    get_axes,
    legend_label,
    place_legend,
    quiet_grid,
    whole_figure,
)
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.tables import name_scores

_LABELS = {
    "fit": "seconds to fit",
    "predict": "seconds to predict {:,} texts",
    "total": "seconds to fit and predict {:,} texts",
}


class AccuracySecondsDisplay:
    """Accuracy with its interval over seconds; the best lies at the top left.

    Make one with `from_report`.

    Parameters
    ----------
    report : ComparisonReport
        The comparison.
    seconds : {"total", "fit", "predict"}, default="total"
        Which seconds.
    confidence : float, default=0.95
        That of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of these.
    """

    def __init__(
        self, report: ComparisonReport, *, seconds: str = "total", confidence: float = 0.95
    ) -> None:
        self.report = report
        self.seconds = seconds
        self.confidence = confidence

    @classmethod
    def from_report(
        cls,
        report: ComparisonReport,
        *,
        seconds: str = "total",
        confidence: float = 0.95,
        ax: Any = None,
    ) -> Self:
        """Draw a comparison.

        Parameters
        ----------
        report : ComparisonReport
            The comparison.
        seconds : {"total", "fit", "predict"}, default="total"
            Which seconds: those of one ``fit``, of one prediction of the test set, or both.
        confidence : float, default=0.95
            That of the intervals.
        ax : matplotlib Axes or None, default=None
            Where to draw. ``None`` makes a figure.

        Returns
        -------
        AccuracySecondsDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        InvalidParameterError
            If there are no such seconds.
        """
        return cls(report, seconds=seconds, confidence=confidence).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw. ``None`` makes a figure.

        Returns
        -------
        AccuracySecondsDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        InvalidParameterError
            If there are no such seconds.
        """
        if self.seconds not in _LABELS:
            msg = (
                f"The 'seconds' parameter must be one of {list(_LABELS)!r}. "
                f"Got {self.seconds!r} instead."
            )
            raise InvalidParameterError(msg)
        self.ax_ = get_axes(ax, type(self).__name__)
        self.figure_ = whole_figure(self.ax_)
        approaches = self.report.scores
        shades = colours(self.ax_, len(approaches))
        for n, (name, scores) in enumerate(approaches.items()):
            low, high = scores.interval(self.confidence)
            self.ax_.errorbar(
                self._mean_seconds(scores),
                scores.mean,
                # Where all answers are alike, the ends are the mean but for rounding.
                yerr=[[max(scores.mean - low, 0.0)], [max(high - scores.mean, 0.0)]],
                color=shades[n],
                marker=MARKERS[n % len(MARKERS)],
                linestyle="none",
                capsize=3,
                label=legend_label(name),
            )
        n_test = max(scores.n_test for scores in approaches.values())
        self._label_axes(_LABELS[self.seconds].format(n_test))
        return self

    def _mean_seconds(self, scores: SeedScores) -> float:
        fit, predict = float(scores.fit_seconds.mean()), float(scores.predict_seconds.mean())
        return {"fit": fit, "predict": predict, "total": fit + predict}[self.seconds]

    def _label_axes(self, xlabel: str) -> None:
        self.ax_.set_xscale("log")
        self.ax_.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        self.ax_.xaxis.set_minor_formatter(lambda *_: "")
        self.ax_.margins(x=0.1)
        name = name_scores(self.report.scores.values())
        self.ax_.set(xlabel=xlabel, ylabel=f"{name}, {100 * self.confidence:g}% interval")
        quiet_grid(self.ax_, "both")
        place_legend(self.ax_)
