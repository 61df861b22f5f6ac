"""Scores of several approaches → a dot for each seed, and the mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any, Self

import numpy as np

from instructclf.evaluation.comparison import ComparisonReport
from instructclf.evaluation.displays.axes import (
    Display,
    colours,
    quiet_grid,
    text_colour,
)
from instructclf.evaluation.scores import SeedScores, name_scorings

_SPREAD = 0.16  # by which dots are moved up and down, so that equal ones do not hide each other
_LONGEST = 20  # characters of a name in one line


class SeedScoresDisplay(Display):
    """The score under each seed, and the mean with its interval.

    Make one with `from_report` or `from_scores`.

    Parameters
    ----------
    scores : dict of str to SeedScores
        The scores of each approach.
    confidence : float, default=0.95
        The confidence of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes it is drawn on.
    figure_ : matplotlib Figure
        Their figure.
    """

    def __init__(self, scores: Mapping[str, SeedScores], *, confidence: float = 0.95) -> None:
        self.scores = scores
        self.confidence = confidence

    @classmethod
    def from_report(
        cls, report: ComparisonReport, *, confidence: float = 0.95, ax: Any = None
    ) -> Self:
        """Draw the scores of a comparison, in the order of its table.

        Parameters
        ----------
        report : ComparisonReport
            The comparison.
        confidence : float, default=0.95
            The confidence of the intervals.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        SeedScoresDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return cls.from_scores(report.scores, confidence=confidence, ax=ax)

    @classmethod
    def from_scores(
        cls,
        scores: SeedScores | Mapping[str, SeedScores],
        *,
        confidence: float = 0.95,
        ax: Any = None,
    ) -> Self:
        """Draw the scores of one approach or several.

        Parameters
        ----------
        scores : SeedScores or dict of str to SeedScores
            The scores, or the name of each approach and its scores.
        confidence : float, default=0.95
            The confidence of the intervals.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        SeedScoresDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        named = {"": scores} if isinstance(scores, SeedScores) else scores
        return cls(named, confidence=confidence).plot(ax)

    def _figsize(self) -> tuple[float, float]:
        return 6.4, 1.4 + 0.5 * len(self.scores)

    def _draw(self) -> None:
        n_approaches = len(self.scores)
        shades = colours(self.ax_, n_approaches)
        for row, scores in enumerate(self.scores.values()):
            self._draw_row(row, scores, shades[row])
        names = [fill(name, _LONGEST) for name in self.scores]
        self.ax_.set_yticks(range(n_approaches), labels=names)
        self.ax_.set_ylim(n_approaches - 0.5, -0.5)  # the first on top, as in the table
        self.ax_.tick_params(axis="y", length=0)
        self.ax_.set_xlabel(name_scorings(self.scores.values()))
        quiet_grid(self.ax_, "x")
        self.ax_.spines["left"].set_visible(False)
        self._explain()

    def _draw_row(self, row: int, scores: SeedScores, colour: Any) -> None:
        low, high = scores.interval(self.confidence)
        ink = text_colour(self.ax_)
        offsets = np.linspace(-_SPREAD, _SPREAD, scores.n_seeds) if scores.n_seeds > 1 else [0.0]
        self.ax_.hlines(row, low, high, color=ink, linewidth=1.5, alpha=0.7, zorder=2)
        self.ax_.vlines(scores.mean, row - 0.3, row + 0.3, color=ink, linewidth=2, zorder=3)
        self.ax_.scatter(
            scores.scores, row + np.asarray(offsets), color=colour, s=26, alpha=0.85, zorder=4
        )

    def _explain(self) -> None:
        """Add the legend's entries, in the colour of text."""
        ink = text_colour(self.ax_)
        self.ax_.plot([], [], "o", color=ink, markersize=5, label="seed")
        self.ax_.plot([], [], "|", color=ink, markersize=10, markeredgewidth=2, label="mean")
        interval = f"{100 * self.confidence:g}% interval"
        self.ax_.plot([], [], color=ink, linewidth=1.5, alpha=0.7, label=interval)
