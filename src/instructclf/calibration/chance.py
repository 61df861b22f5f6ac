"""Answers to labelled rows → a warning if they are no better than chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc

from instructclf.calibration.calibrations import Evidence
from instructclf.exceptions import ChanceLevelWarning, warn_caller

_LEAST_ROWS = 16
_LEAST_ROWS_FOR_ONE_LABEL = 20
_NEARLY_ALL = 0.95
_SIGNIFICANCE = 0.2
_CERTAINTY = 0.01


def warn_at_chance(chosen: NDArray[np.intp], codes: NDArray[np.intp], evidence: Evidence) -> None:
    """Warn if answers to labelled rows are no better than chance, or nearly all the same label.

    Each class has the same number of rows. So that few rows give no false alarm, two one-sided
    binomial tests must agree: one does not refute chance (at 20%), and the other refutes an
    accuracy halfway between chance and 1 (at 1%).

    Warns
    -----
    ChanceLevelWarning
        With the figures and the remedies.
    """
    n_rows, n_right, chance = len(codes), int((chosen == codes).sum()), 1 / evidence.n_classes
    if n_rows < _LEAST_ROWS:
        return
    # The probabilities of so many right answers or more, and of so many or fewer.
    at_least = bdtrc(n_right - 1, n_rows, chance) if n_right else 1.0
    at_most = bdtr(n_right, n_rows, (1 + chance) / 2)
    counts = np.bincount(chosen, minlength=evidence.n_classes)
    is_one_label = n_rows >= _LEAST_ROWS_FOR_ONE_LABEL and counts.max() >= _NEARLY_ALL * n_rows
    if is_one_label or (at_least > _SIGNIFICANCE and at_most < _CERTAINTY):
        winner = evidence.classes.tolist()[counts.argmax()]
        warn_caller(
            f"{evidence.what} is {'hardly' if at_least <= _SIGNIFICANCE else 'no'} better than "
            f"chance on {n_rows} labelled rows that were held out to calibrate it: "
            f"{n_right / n_rows:.2f} of them are right, and guessing gives {chance:.2f}. "
            f"{counts.max()} of the {n_rows} answers are {winner!r}. "
            "Check that the labels fit the texts. Then try label_definitions, other label words "
            "(verbalizer), another template, more shots, another model, or tuning "
            "(InstructionTunedClassifier).",
            ChanceLevelWarning,
        )
