"""Training losses → a line for each run, which shows whether tuning converged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import NotFittedError

from instructclf.evaluation.displays.axes import (
    Display,
    colours,
    legend_label,
    quiet_grid,
)
from instructclf.evaluation.scores import SeedScores


class LossCurveDisplay(Display):
    """The training loss over epochs, a line for each run.

    Make one with `from_estimator` or `from_scores`.

    Parameters
    ----------
    curves : dict of str to sequence of array-like
        The losses of each run of each approach.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes it is drawn on.
    figure_ : matplotlib Figure
        Their figure.
    """

    def __init__(self, curves: Mapping[str, Sequence[ArrayLike]]) -> None:
        self.curves = curves

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the ``loss_curve_`` of a fitted estimator, or a line for each of its seeds.

        Parameters
        ----------
        estimator : estimator with loss_curve_
            For example an `InstructionTunedClassifier` or scikit-learn's ``MLPClassifier``, also
            as the last step of a pipeline, in a `FewShot` or as the best estimator of a search.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        LossCurveDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        NotFittedError
            If it has no ``loss_curve_``.
        """
        last = _trained(estimator)
        curves = {
            name: [run.loss_curve_]
            for name, run in _runs(last).items()
            if hasattr(run, "loss_curve_")
        }
        if not curves:
            msg = f"This {type(last).__name__} has no loss_curve_. Fit it, if it trains in epochs."
            raise NotFittedError(msg)
        return cls(curves).plot(ax)

    @classmethod
    def from_scores(cls, scores: SeedScores | Mapping[str, SeedScores], *, ax: Any = None) -> Self:
        """Draw the losses under each seed.

        Parameters
        ----------
        scores : SeedScores or dict of str to SeedScores
            The scores, or the name of each approach and its scores. Scores of estimators that do
            not train in epochs are omitted.
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        LossCurveDisplay
            The display.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        NotFittedError
            If no approach has loss curves.
        """
        named = {"": scores} if isinstance(scores, SeedScores) else scores
        curves = {name: one.loss_curves for name, one in named.items() if len(one.loss_curves)}
        if not curves:
            msg = "These scores have no loss curves, as no estimator had a loss_curve_ once fitted."
            raise NotFittedError(msg)
        return cls(curves).plot(ax)

    def _draw(self) -> None:
        shades = colours(self.ax_, len(self.curves))
        styles = cycle(["-", "--", "-.", ":"])
        for (name, runs), colour, style in zip(self.curves.items(), shades, styles, strict=False):
            for n, curve in enumerate(runs):
                losses = np.asarray(curve, dtype=float)
                epochs = np.arange(1, len(losses) + 1)
                label = legend_label(name) if n == 0 else None
                self.ax_.plot(epochs, losses, style, color=colour, linewidth=1.2, label=label)
                self.ax_.plot(epochs[-1], losses[-1], color=colour, marker="o", markersize=4)
        self.ax_.set(xlabel="epoch", ylabel="training loss")
        self.ax_.set_ylim(bottom=0)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        quiet_grid(self.ax_, "y")


def _trained(estimator: Any) -> Any:
    """Return the innermost trained estimator of a pipeline, a ``FewShot`` or a search.

    Unlike the measuring of predictions, this also looks into meta-estimators that tune a threshold.
    """
    if hasattr(estimator, "steps"):
        return _trained(estimator.steps[-1][1])
    for name in ("estimator_", "best_estimator_"):
        if hasattr(estimator, name):
            return _trained(getattr(estimator, name))
    return estimator


def _runs(estimator: Any) -> dict[str, Any]:
    """Return the fitted estimator of each seed, or the estimator itself."""
    # The estimators_ of other ensembles differ by more than their seeds.
    if hasattr(estimator, "n_seeds") and hasattr(estimator, "estimators_"):
        return {f"seed {n}": run for n, run in enumerate(estimator.estimators_, start=1)}
    return {"": estimator}
