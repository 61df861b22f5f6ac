"""Learning curves → scores over the number of shots, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from instructclf.evaluation.curves import LearningCurve
from instructclf.evaluation.displays.axes import (
    MARKERS,
    Display,
    colours,
    legend_label,
    quiet_grid,
    set_integer_ticks,
)
from instructclf.evaluation.scores import name_scorings


class LearningCurveDisplay(Display):
    """Scores over the number of shots, with intervals over seeds and texts.

    Make one with `from_curves`.

    Parameters
    ----------
    curves : dict of str to LearningCurve
        The curve of each approach.
    confidence : float, default=0.95
        The confidence of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes it is drawn on.
    figure_ : matplotlib Figure
        Their figure.

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
            The confidence of the intervals.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

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

    def _draw(self) -> None:
        shades = colours(self.ax_, len(self.curves))
        for n, (name, curve) in enumerate(self.curves.items()):
            self._draw_curve(name, curve, shades[n], MARKERS[n % len(MARKERS)])
        counts = sorted({k for curve in self.curves.values() for k in curve.scores})
        self._set_scale(counts)
        name = name_scorings(s for curve in self.curves.values() for s in curve.scores.values())
        self.ax_.set(xlabel="shots", ylabel=f"{name}, {100 * self.confidence:g}% interval")
        quiet_grid(self.ax_, "y")

    def _draw_curve(self, name: str, curve: LearningCurve, colour: Any, marker: str) -> None:
        counts = list(curve.scores)
        means = [scores.mean for scores in curve.scores.values()]
        lows, highs = zip(
            *(scores.interval(self.confidence) for scores in curve.scores.values()), strict=True
        )
        self.ax_.fill_between(counts, lows, highs, color=colour, alpha=0.18, linewidth=0)
        self.ax_.plot(counts, means, color=colour, marker=marker, label=legend_label(name))

    def _set_scale(self, counts: list[int]) -> None:
        """Give each doubling the same width, and leave room for 0."""
        above = [count for count in counts if count > 0]
        if 0 in counts and above:
            self.ax_.set_xscale("symlog", base=2, linthresh=above[0])
        elif 0 not in counts:
            self.ax_.set_xscale("log", base=2)
        set_integer_ticks(self.ax_.xaxis, counts)
