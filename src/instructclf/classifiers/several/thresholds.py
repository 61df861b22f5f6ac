"""Probabilities of labelled rows → the probability from which an answer is "yes".

scikit-learn's `TunedThresholdClassifierCV` does the same for one column, over folds. None is needed
here: rows that are not shots have not been learned from, and a shot is scored after a prompt of the
others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.calibration import Calibration

HALF = 0.5
_MOST_ROWS = 256
_LEAST_EACH = 4
"""Of fewer rows of a label, the best threshold is that of a row or two."""


def learn_threshold(evidence: Any, calibration: Calibration, rng: np.random.RandomState) -> float:
    """Return the threshold with the best F1 on rows that are not shots, as frequent as they are.

    Without such rows, each shot is scored after a prompt of the others. It is 0.5 if there are too
    few rows of either label.
    """
    texts, codes, shots = evidence.texts, evidence.codes, evidence.shots
    shown = {texts[i] for i in shots}
    others = [i for i, text in enumerate(texts) if text not in shown]
    rows = rng.permutation(others)[:_MOST_ROWS].astype(np.intp) if others else shots
    if np.bincount(codes[rows], minlength=2).min() < _LEAST_EACH:
        return HALF
    if others:
        scores = evidence.score([texts[i] for i in rows], relative=True)
    else:
        scores = evidence.score_shots(relative=True)
    return find_threshold(np.exp(calibration.log_probabilities(scores))[:, 1], codes[rows])


def find_threshold(probabilities: NDArray[np.float64], codes: NDArray[np.intp]) -> float:
    """Return the threshold from which "yes" has the best F1; of several, the closest to 0.5."""
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    found = np.cumsum(codes[order])
    f1 = 2 * found / (np.arange(1, len(codes) + 1) + codes.sum())
    below = np.append(ranked[1:], 0.0)
    f1[ranked == below] = -1.0  # equal probabilities get the same answer
    thresholds = (ranked + below) / 2
    best = np.flatnonzero(f1 == f1.max())
    return float(thresholds[best[np.abs(thresholds[best] - HALF).argmin()]])
