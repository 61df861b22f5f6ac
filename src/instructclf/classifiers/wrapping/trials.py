"""Classifiers and splits of labelled rows → what they say of the rows that are held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import has_fit_parameter

from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.sharing import SharedModelEstimator
from instructclf.classifiers.wrapping.splits import Split

_LEAST = float(np.log(1e-6))
"""The least log-probability of a label: one row must not decide about a classifier."""


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows to learn from.

    Parameters
    ----------
    texts : sequence
        The texts, or other rows that scikit-learn can take by number.
    labels : ndarray of shape (n_rows,)
        Their labels.
    weights : ndarray of shape (n_rows,) or None
        How much each row counts. ``None`` for 1.
    """

    texts: Any
    labels: NDArray[Any]
    weights: NDArray[np.float64] | None

    def fit(self, estimator: Any, taken: NDArray[np.intp] | None = None) -> Any:
        """Return a clone of a classifier, fitted to all rows or to those taken."""
        inner: Any = clone(estimator)
        given = {}
        if self.weights is not None and has_fit_parameter(inner, "sample_weight"):
            given["sample_weight"] = self.weights if taken is None else self.weights[taken]
        if taken is None:
            return inner.fit(self.texts, self.labels, **given)
        return inner.fit(_safe_indexing(self.texts, taken), self.labels[taken], **given)


@dataclass
class Trial:
    """What a classifier says of held-out rows, and what that took.

    Parameters
    ----------
    n_splits : int
        How many splits it takes to try the classifier.
    said : list of (labels, probabilities)
        For each split so far, the labels that the classifier knows, and their probabilities for the
        rows held out.
    fit_seconds, predict_seconds : float
        The time of all fits, and of all predictions.
    fitted : classifier
        The classifier of the last split.
    """

    n_splits: int
    said: list[tuple[NDArray[Any], NDArray[np.float64]]] = field(default_factory=list)
    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    fitted: Any = None

    @property
    def seconds(self) -> float:
        """Return the time that the trial has taken."""
        return self.fit_seconds + self.predict_seconds

    @property
    def remaining_seconds(self) -> float:
        """Return the time that the other splits will take if they take as long."""
        n_done = len(self.said)
        return self.seconds / n_done * (self.n_splits - n_done) if n_done else 0.0

    @property
    def finished(self) -> bool:
        """Return whether the classifier has been asked about all rows held out."""
        return len(self.said) == self.n_splits

    def log_probabilities(self, classes: NDArray[Any]) -> NDArray[np.float64]:
        """Return an array of shape (n_held_out, n_classes)."""
        return np.concatenate([align(known, found, classes) for known, found in self.said])

    def try_split(
        self, estimator: Any, rows: LabelledRows, split: Split, clock: Callable[[], float]
    ) -> None:
        """Fit a clone of the classifier, and ask it about the rows held out."""
        learned, held_out = split
        started = clock()
        self.fitted = rows.fit(estimator, learned)
        ready = clock()
        probabilities = self.fitted.predict_proba(_safe_indexing(rows.texts, held_out))
        self.said.append((np.asarray(self.fitted.classes_), np.asarray(probabilities)))
        self.fit_seconds += ready - started
        self.predict_seconds += clock() - ready


def try_classifiers(
    estimators: Sequence[tuple[str, Any]],
    rows: LabelledRows,
    splits: Sequence[Split],
    *,
    max_seconds: float | None,
    clock: Callable[[], float],
    tell: Callable[[str], None],
) -> dict[str, Trial]:
    """Try classifiers, cheapest first, and return their trials in the order given.

    The cheapest is tried in any case. Of the others, the first that would exceed the time after one
    of its splits is not finished, and those after it are not begun.

    Parameters
    ----------
    estimators : sequence of (str, classifier)
        Names and classifiers.
    rows : LabelledRows
        All rows.
    splits : sequence of (rows, rows)
        Which of them are learned from, and which are held out.
    max_seconds : float or None
        The time for all trials.
    clock : callable
        Returns the time in seconds.
    tell : callable
        Takes a line about each classifier.

    Returns
    -------
    dict of str to Trial
        The trial of each classifier, finished or not.
    """
    trials = {name: Trial(len(splits)) for name, _ in estimators}
    left = np.inf if max_seconds is None else max_seconds
    ordered = sorted(estimators, key=lambda pair: presumed_cost(pair[1]))
    for position, (name, estimator) in enumerate(ordered):
        trial, must_finish = trials[name], position == 0
        for split in splits if left > 0 or must_finish else ():
            if trial.remaining_seconds > left and not must_finish:
                left = 0.0
                break
            before = trial.seconds
            trial.try_split(estimator, rows, split, clock)
            left -= trial.seconds - before
        outcome = "Tried" if trial.finished else "Left out, for lack of time,"
        tell(f"{outcome} {name}: {trial.seconds:.0f} s")
    return trials


def presumed_cost(estimator: Any) -> tuple[int, int]:
    """Return what sorts classifiers by cost, cheapest first.

    One without a language model comes first, then those that prompt one, then those that tune one;
    of these kinds, one of few seeds first.
    """
    parts = [estimator, *estimator.get_params().values()]
    n_seeds = max(getattr(part, "n_seeds", 1) for part in parts)
    if any(isinstance(part, InstructionTunedClassifier) for part in parts):
        return 2, n_seeds
    return int(any(isinstance(part, SharedModelEstimator) for part in parts)), n_seeds


def align(
    known: NDArray[Any], probabilities: NDArray[np.float64], classes: NDArray[Any]
) -> NDArray[np.float64]:
    """Return log-probabilities of all classes. Those unknown to a classifier get the least."""
    found = np.full((len(probabilities), len(classes)), _LEAST)
    columns = np.searchsorted(classes, known)
    found[:, columns] = np.log(np.maximum(probabilities, np.exp(_LEAST)))
    return found


def cool(log_probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Divide log-probabilities by a temperature, and normalise them."""
    scaled = log_probabilities / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
