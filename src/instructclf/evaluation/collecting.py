"""Runs and their outcomes → the scores of one estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.evaluation.running import Outcome, Run
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.splitting import Split

_IMPOSSIBLE = float(np.log(np.finfo(np.float64).tiny))


def collect(
    runs: Sequence[Run],
    outcomes: Sequence[Outcome],
    *,
    split: Split,
    n_shots: int | None,
    scoring: str,
) -> SeedScores:
    """Put the outcomes of the runs of one estimator together."""
    known = [split.y_train.tolist(), split.y_test.tolist(), *(own.classes for own in outcomes)]
    classes = np.unique(np.array([label for labels in known for label in labels]))
    has_scores = all(outcome.log_probabilities is not None for outcome in outcomes)
    return SeedScores(
        y_test=split.y_test,
        predictions=np.array([outcome.predictions for outcome in outcomes]),
        fit_seconds=np.array([outcome.fit_seconds for outcome in outcomes]),
        predict_seconds=np.array([outcome.predict_seconds for outcome in outcomes]),
        shots=[run.shots for run in runs],
        n_shots=n_shots,
        classes=classes,
        log_probabilities=np.stack([_aligned(o, classes) for o in outcomes])
        if has_scores
        else None,
        loss_curves=[np.array(curve) for own in outcomes for curve in own.loss_curves],
        scoring=scoring,
    )


def _aligned(outcome: Outcome, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Give each class its column, also those that the estimator never saw."""
    scores = np.asarray(outcome.log_probabilities)
    aligned = np.full((len(scores), len(classes)), _IMPOSSIBLE)
    aligned[:, np.searchsorted(classes, outcome.classes)] = scores
    return aligned
