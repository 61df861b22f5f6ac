"""Split, estimator, seed → score and seconds: the one way in which an approach is measured.

Shots are drawn here, before any estimator sees a row, so that every approach learns from the same
rows under the same seed.
"""

from __future__ import annotations

from numbers import Integral
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    validate_parameter_constraints,
)

from instructclf.evaluation.splitting import Split
from instructclf.sampling import ShotSampler, get_sampler

_CONSTRAINTS = {
    "estimator": [HasMethods(["fit", "predict"])],
    "n_shots": [Interval(Integral, 0, None, closed="left"), None],
    "n_seeds": [Interval(Integral, 1, None, closed="left")],
    "random_state": [Interval(Integral, 0, None, closed="left"), None],
    "verbose": ["verbose"],
}


class Run(NamedTuple):
    """One training and its test, before it happens."""

    rows: NDArray[np.intp]  # (n_rows,), the training rows handed to the estimator
    shots: NDArray[np.intp]  # (n_shots,), the same, or none where they only name the labels
    seed: int


class Outcome(NamedTuple):
    """What a run gave."""

    accuracy: float
    fit_seconds: float
    predict_seconds: float


def check_parameters(caller: str, **parameters: Any) -> None:
    """Raise scikit-learn's error if a parameter is outside its domain."""
    validate_parameter_constraints(_CONSTRAINTS, parameters, caller_name=caller)
    estimator = parameters.get("estimator")
    if parameters.get("n_shots") == 0 and not _uses_no_shots(estimator):
        msg = (
            f"The 'n_shots' parameter of {caller} can be 0 only for an estimator that learns from "
            f"no row, such as PromptClassifier(n_shots=0). Got {estimator!r}."
        )
        raise InvalidParameterError(msg)


def plan_runs(
    split: Split,
    *,
    n_shots: int | None,
    n_seeds: int,
    sampler: str | ShotSampler,
    random_state: int | None,
) -> list[Run]:
    """Draw the rows of every run, so that a wrong request fails before the first hour of work."""
    chosen = get_sampler(sampler)
    runs = []
    for child in np.random.SeedSequence(random_state).spawn(n_seeds):
        # 31 bits, because some estimators keep seeds in signed integers.
        shot_seed, seed = (int(word >> 1) for word in child.generate_state(2))
        if n_shots is None:
            rows = shots = np.arange(len(split.X_train), dtype=np.intp)
        elif n_shots == 0:
            rows = np.unique(split.y_train, return_index=True)[1]
            shots = rows[:0]
        else:
            rows = shots = chosen.select(
                split.X_train, split.y_train, n_shots, random_state=shot_seed
            )
        runs.append(Run(rows, shots, seed))
    return runs


def execute(run: Run, estimator: Any, split: Split) -> Outcome:
    """Fit a clone of the estimator on the rows of the run, and test it."""
    fresh = _with_seed(clone(estimator), run.seed)
    texts = [split.X_train[i] for i in run.rows.tolist()]
    started = perf_counter()
    fresh.fit(texts, split.y_train[run.rows])
    fitted = perf_counter()
    predicted = fresh.predict(split.X_test)
    ended = perf_counter()
    accuracy = float(accuracy_score(split.y_test, predicted))
    return Outcome(accuracy, fitted - started, ended - fitted)


def _uses_no_shots(estimator: Any) -> bool:
    parameters = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    counts = [value for name, value in parameters.items() if name.split("__")[-1] == "n_shots"]
    return bool(counts) and all(count == 0 for count in counts)


def _with_seed(estimator: Any, seed: int) -> Any:
    """Set every ``random_state`` of the estimator, nested ones too, each to its own seed."""
    names = [n for n in estimator.get_params(deep=True) if n.split("__")[-1] == "random_state"]
    seeds = np.random.SeedSequence(seed).generate_state(len(names)) >> 1
    given = dict(zip(sorted(names), seeds.tolist(), strict=True))
    return estimator.set_params(**given)
