"""What classifiers said of held-out rows → how much each counts, and a report of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instructclf.calibration.labelled_rows import fit_temperature
from instructclf.classifiers.wrapping.trials import Trial, cool

Pool = Callable[[NDArray[np.float64], NDArray[np.float64] | None], NDArray[np.float64]]
"""Likelihoods of shape (n_rows, n_classifiers) and weights of rows → weights of classifiers."""


class Weighed(NamedTuple):
    """The fitted attributes of a blend, of the same names."""

    classes: NDArray[Any]
    weights: dict[str, float]
    temperatures: dict[str, float]
    cv_results: dict[str, NDArray[Any]]


def weigh(
    trials: Mapping[str, Trial],
    labels: NDArray[Any],
    tested: NDArray[np.intp],
    pool: Pool,
    row_weights: NDArray[np.float64] | None,
) -> Weighed:
    """Weigh the classifiers whose trials are finished. The others get the weight 0.

    ``tested`` are the rows held out, as positions in ``labels``, and ``row_weights`` are theirs.
    """
    finished = {name: trial for name, trial in trials.items() if trial.finished}
    known = [known for trial in finished.values() for known, _ in trial.said]
    classes = np.unique(np.concatenate([labels, *known]))
    codes = np.searchsorted(classes, labels[tested])
    said = [trial.log_probabilities(classes) for trial in finished.values()]
    temperatures = [fit_temperature(one, codes, row_weights) for one in said]
    cooled = [cool(one, t) for one, t in zip(said, temperatures, strict=True)]
    right = np.column_stack([one[np.arange(len(codes)), codes] for one in cooled])
    hits = np.column_stack([one.argmax(axis=1) == codes for one in said])
    found = dict(zip(finished, pool(np.exp(right), row_weights).tolist(), strict=True))
    weights = {name: found.get(name, 0.0) for name in trials}
    scores = {
        "temperature": np.array(temperatures),
        **_mean_and_error("log_loss", -right, row_weights),
        **_mean_and_error("accuracy", hits, row_weights),
    }
    results = {
        "name": np.array(list(trials)),
        "finished": np.array([trial.finished for trial in trials.values()]),
        "weight": np.array(list(weights.values())),
        **{name: _spread(values, trials) for name, values in scores.items()},
        **_seconds(trials, len(tested)),
    }
    return Weighed(classes, weights, dict(zip(finished, temperatures, strict=True)), results)


def _mean_and_error(
    name: str, values: NDArray[Any], row_weights: NDArray[np.float64] | None
) -> dict[str, NDArray[np.float64]]:
    """Return the mean over rows and its standard error, for each classifier."""
    n_rows = len(values)
    shares = np.full(n_rows, 1 / n_rows) if row_weights is None else row_weights / row_weights.sum()
    mean = np.average(values, axis=0, weights=row_weights)
    correction = n_rows / (n_rows - 1) if n_rows > 1 else np.nan
    return {name: mean, f"{name}_se": np.sqrt(correction * (shares**2 @ (values - mean) ** 2))}


def _spread(values: NDArray[Any], trials: Mapping[str, Trial]) -> NDArray[np.float64]:
    """Return values of finished trials as one entry for each trial, NaN for the others."""
    spread = np.full(len(trials), np.nan)
    spread[[trial.finished for trial in trials.values()]] = values
    return spread


def _seconds(trials: Mapping[str, Trial], n_tested: int) -> dict[str, NDArray[np.float64]]:
    """Return the seconds of a fit, of a prediction and of each trial, NaN where none was made."""
    n_done = np.array([len(trial.said) or np.nan for trial in trials.values()])
    n_texts = n_tested * n_done / np.array([trial.n_splits for trial in trials.values()])
    fitting = np.array([trial.fit_seconds for trial in trials.values()])
    predicting = np.array([trial.predict_seconds for trial in trials.values()])
    return {
        "fit_seconds": fitting / n_done,
        "seconds_per_text": predicting / n_texts,
        "trial_seconds": fitting + predicting,
    }
