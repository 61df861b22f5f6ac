"""A comparison → accuracy over seconds: the time that better answers cost."""

from __future__ import annotations

from typing import Any, Self

from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation.comparison import ComparisonReport
from instructclf.evaluation.displays.axes import (
    MARKERS,
    Display,
    colours,
    legend_label,
    quiet_grid,
)
from instructclf.evaluation.scores import SeedScores, name_scorings

_LABELS = {
    "fit": "seconds to fit",
    "predict": "seconds to predict {:,} texts",
    "total": "seconds to fit and predict {:,} texts",
}


class AccuracySecondsDisplay(Display):
    """Accuracy with its interval over seconds; the best lies at the top left.

    Make one with `from_report`.

    Parameters
    ----------
    report : ComparisonReport
        The comparison.
    seconds : {"total", "fit", "predict"}, default="total"
        The seconds to show.
    confidence : float, default=0.95
        The confidence of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes it is drawn on.
    figure_ : matplotlib Figure
        Their figure.
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
            The seconds of one ``fit``, of one prediction of the test set, or of both.
        confidence : float, default=0.95
            The confidence of the intervals.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        AccuracySecondsDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        InvalidParameterError
            If ``seconds`` is something else.
        """
        if seconds not in _LABELS:
            msg = (
                f"The 'seconds' parameter must be one of {list(_LABELS)!r}. "
                f"Got {seconds!r} instead."
            )
            raise InvalidParameterError(msg)
        return cls(report, seconds=seconds, confidence=confidence).plot(ax)

    def _draw(self) -> None:
        approaches = self.report.scores
        shades = colours(self.ax_, len(approaches))
        for n, (name, scores) in enumerate(approaches.items()):
            low, high = scores.interval(self.confidence)
            self.ax_.errorbar(
                self._mean_seconds(scores),
                scores.mean,
                # If all answers are alike, the ends may pass the mean by a rounding error.
                yerr=[[max(scores.mean - low, 0.0)], [max(high - scores.mean, 0.0)]],
                color=shades[n],
                marker=MARKERS[n % len(MARKERS)],
                linestyle="none",
                capsize=3,
                label=legend_label(name),
            )
        n_test = max(scores.n_test for scores in approaches.values())
        self._label_axes(_LABELS[self.seconds].format(n_test))

    def _mean_seconds(self, scores: SeedScores) -> float:
        fit, predict = float(scores.fit_seconds.mean()), float(scores.predict_seconds.mean())
        return {"fit": fit, "predict": predict, "total": fit + predict}[self.seconds]

    def _label_axes(self, xlabel: str) -> None:
        self.ax_.set_xscale("log")
        self.ax_.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        self.ax_.xaxis.set_minor_formatter(lambda *_: "")
        self.ax_.margins(x=0.1)
        name = name_scorings(self.report.scores.values())
        self.ax_.set(xlabel=xlabel, ylabel=f"{name}, {100 * self.confidence:g}% interval")
        quiet_grid(self.ax_, "both")
