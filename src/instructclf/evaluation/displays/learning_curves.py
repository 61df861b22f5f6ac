"""Learning curves → scores over the number of shots, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from instructclf.evaluation.curves import LearningCurve
from instructclf.evaluation.displays.axes import (
    MARKERS,
    colours,
    get_axes,
    legend_label,
    place_legend,
    plain_ticks,
    quiet_grid,
    whole_figure,
)
from instructclf.evaluation.tables import name_scores


class LearningCurveDisplay:
    """Scores over the number of shots, with intervals over seeds and texts.

    Make one with `from_curves`.

    Parameters
    ----------
    curves : dict of str to LearningCurve
        The curve of each approach.
    confidence : float, default=0.95
        That of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of these.

    See Also
    --------
    learning_curve : Makes a curve.
    """

    def __init__(self, curves: Mapping[str, LearningCurve], *, confidence: float = 0.95) -> None:
        self.curves = curves
        self.confidence = confidence

    @classmethod
    def from_curves(
        cls,
        curves: LearningCurve | Mapping[str, LearningCurve],
        *,
        confidence: float = 0.95,
        ax: Any = None,
    ) -> Self:
        """Draw one curve or several.

        Parameters
        ----------
        curves : LearningCurve or dict of str to LearningCurve
            A curve, or the name of each approach and its curve.
        confidence : float, default=0.95
            That of the intervals.
        ax : matplotlib Axes or None, default=None
            Where to draw. ``None`` makes a figure.

        Returns
        -------
        LearningCurveDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        named = {"": curves} if isinstance(curves, LearningCurve) else curves
        return cls(named, confidence=confidence).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw. ``None`` makes a figure.

        Returns
        -------
        LearningCurveDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        self.ax_ = get_axes(ax, type(self).__name__)
        self.figure_ = whole_figure(self.ax_)
        shades = colours(self.ax_, len(self.curves))
        for n, (name, curve) in enumerate(self.curves.items()):
            self._draw_curve(name, curve, shades[n], MARKERS[n % len(MARKERS)])
        counts = sorted({k for curve in self.curves.values() for k in curve.scores})
        self._set_scale(counts)
        every = (of for curve in self.curves.values() for of in curve.scores.values())
        name = name_scores(every)
        self.ax_.set(xlabel="shots", ylabel=f"{name}, {100 * self.confidence:g}% interval")
        quiet_grid(self.ax_, "y")
        place_legend(self.ax_)
        return self

    def _draw_curve(self, name: str, curve: LearningCurve, colour: Any, marker: str) -> None:
        counts = list(curve.scores)
        means = [scores.mean for scores in curve.scores.values()]
        lows, highs = zip(
            *(scores.interval(self.confidence) for scores in curve.scores.values()), strict=True
        )
        self.ax_.fill_between(counts, lows, highs, color=colour, alpha=0.18, linewidth=0)
        self.ax_.plot(counts, means, color=colour, marker=marker, label=legend_label(name))

    def _set_scale(self, counts: list[int]) -> None:
        """Give each doubling the same width, and 0 a place of its own."""
        above = [count for count in counts if count > 0]
        if 0 in counts and above:
            self.ax_.set_xscale("symlog", base=2, linthresh=above[0])
        elif 0 not in counts:
            self.ax_.set_xscale("log", base=2)
        plain_ticks(self.ax_.xaxis, counts)
