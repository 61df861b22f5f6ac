"""Scores → scikit-learn's confusion matrix, over all seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

from instructclf.evaluation.displays.axes import get_axes, panel_size, whole_figure
from instructclf.evaluation.scores import SeedScores

_MOST_WITH_NUMBERS = 12  # classes; beyond, the numbers do not fit into the cells
_POINTS = 72  # of an inch
_SMALLEST = 5.0  # points of a letter that can still be read
_LONG = 5  # characters of the longest label that fits under a column without rotation


def confusion_display(
    scores: SeedScores, *, ax: Any = None, cmap: str = "Blues"
) -> ConfusionMatrixDisplay:
    """Draw the confusion matrix over all seeds, as shares of each true label.

    Parameters
    ----------
    scores : SeedScores
        The scores.
    ax : matplotlib Axes or None, default=None
        The axes to draw on. ``None`` makes a figure.
    cmap : str, default="Blues"
        A colour map of matplotlib.

    Returns
    -------
    sklearn.metrics.ConfusionMatrixDisplay
        The display. A row without test texts is zero.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    true = np.tile(scores.y_test, scores.n_seeds)
    predicted = scores.predictions.ravel()
    labels = np.unique(np.concatenate([true, predicted]))
    few = len(labels) <= _MOST_WITH_NUMBERS
    side = max(4.0, 1.5 + 0.55 * len(labels)) if few else min(12.0, 2 + 0.16 * len(labels))
    ax = get_axes(ax, "confusion_display", figsize=(side + 0.6, side), layout="compressed")
    cell = _POINTS * 0.7 * min(panel_size(ax)) / len(labels)
    display = ConfusionMatrixDisplay.from_predictions(
        true,
        predicted,
        labels=labels,
        normalize="true",
        values_format=".2f",
        include_values=few,
        colorbar=False,
        text_kw={"fontsize": min(10.0, 0.34 * cell)} if few else None,
        cmap=cmap,
        im_kw={"vmin": 0, "vmax": 1},
        ax=ax,
    )
    if not few:
        ax.figure.colorbar(display.im_, ax=ax, shrink=0.8, label="share of the true label")
    _set_labels(ax, [str(label) for label in labels], cell)
    display.figure_ = whole_figure(ax)  # scikit-learn's may be a SubFigure, which cannot be saved
    return display


def _set_labels(ax: Any, labels: list[str], cell: float) -> None:
    """Rotate long labels, make many labels small, and omit some if they do not fit."""
    few = len(labels) <= _MOST_WITH_NUMBERS
    size = min(10.0, max(_SMALLEST, 0.8 * cell))
    step = int(np.ceil(1.2 * size / cell))
    ticks, shown = range(0, len(labels), step), labels[::step]
    ax.set(xlabel="predicted label", ylabel="true label")
    ax.set_yticks(ticks, labels=shown, fontsize=size)
    if max(map(len, labels)) <= _LONG or len(labels) == 2:
        ax.set_xticks(ticks, labels=shown, fontsize=size)
    elif few:  # the end of a slanted label is under its column
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(ticks, labels=shown, fontsize=size, **turned)
    else:
        ax.set_xticks(ticks, labels=shown, fontsize=size, rotation=90)
