"""A classifier and splits of labelled rows → what it says of the rows that are held out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing

Split = tuple[NDArray[np.intp], NDArray[np.intp]]
"""The rows to learn from and the rows held out."""
_LEAST = float(np.log(1e-6))
"""The least log-probability of a label: one row must not decide about a classifier."""


@dataclass(frozen=True)
class Trial:
    """What a classifier says of held-out rows, and what that took.

    Parameters
    ----------
    said : list of (labels, probabilities)
        For each split, the labels that the classifier knows, and their probabilities for the rows
        held out.
    fit_seconds, predict_seconds : float
        The time of all fits, and of all predictions.
    fitted : classifier
        The classifier of the last split.
    """

    said: list[tuple[NDArray[Any], NDArray[np.float64]]]
    fit_seconds: float
    predict_seconds: float
    fitted: Any

    def log_probabilities(self, classes: NDArray[Any]) -> NDArray[np.float64]:
        """Return an array of shape (n_held_out, n_classes)."""
        return np.concatenate([align(known, found, classes) for known, found in self.said])


def try_classifier(estimator: Any, rows: Any, labels: NDArray[Any], splits: list[Split]) -> Trial:
    """Fit a clone of the classifier in each split, and ask it about the rows held out."""
    said: list[tuple[NDArray[Any], NDArray[np.float64]]] = []
    fitting, predicting, fitted = 0.0, 0.0, None
    for learned, held_out in splits:
        inner: Any = clone(estimator)
        started = time.perf_counter()
        fitted = inner.fit(_safe_indexing(rows, learned), labels[learned])
        ready = time.perf_counter()
        probabilities = np.asarray(fitted.predict_proba(_safe_indexing(rows, held_out)))
        said.append((np.asarray(fitted.classes_), probabilities))
        fitting += ready - started
        predicting += time.perf_counter() - ready
    return Trial(said, fitting, predicting, fitted)


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


def mean_and_error(name: str, values: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return the mean over rows and its standard error, for each classifier."""
    n_rows = len(values)
    return {name: values.mean(axis=0), f"{name}_se": values.std(axis=0, ddof=1) / n_rows**0.5}
