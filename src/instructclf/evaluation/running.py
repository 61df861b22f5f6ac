"""Split, estimator, seed → predictions and seconds: how every approach is measured.

Shots are drawn here, before any estimator sees a row, so that under the same seed every approach
learns from the same rows.
"""

from __future__ import annotations

from numbers import Integral
from os import PathLike
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

from instructclf.classifiers.wrapping.wrapper import (
    ClassifierWrapper,
    decide,
    decides_by_probabilities,
)
from instructclf.evaluation.metrics import SCORINGS
from instructclf.evaluation.splitting import Split
from instructclf.sampling import ShotSampler, get_sampler

_CONSTRAINTS = {
    "estimator": [HasMethods(["fit", "predict"])],
    "n_shots": [Interval(Integral, 0, None, closed="left"), None],
    "n_seeds": [Interval(Integral, 1, None, closed="left")],
    "n_folds": [Interval(Integral, 2, None, closed="left")],
    "scoring": [StrOptions(set(SCORINGS))],
    "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both"), None],  # as NumPy's
    "folder": [str, PathLike, None],
    "verbose": ["verbose"],
}
_LEAST = np.finfo(np.float64).tiny  # replaces a probability of 0, which has no logarithm


class Run(NamedTuple):
    """One training and its test, before they are executed."""

    rows: NDArray[np.intp]  # (n_rows,), the training rows that the estimator is given
    shots: NDArray[np.intp]  # (n_shots,), the same, or empty if the rows only name the labels
    seed: int


class Outcome(NamedTuple):
    """The predictions, losses and seconds of a run."""

    predictions: list[Any]  # (n_test,)
    classes: list[Any]  # (n_classes,), the columns of log_probabilities; empty without these
    log_probabilities: NDArray[np.float64] | None  # (n_test, n_classes)
    loss_curves: list[list[float]]  # one for each seed of the estimator itself
    fit_seconds: float  # without loading_seconds
    predict_seconds: float
    loading_seconds: float = 0.0  # of language models that were not loaded yet


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
    _check_takes_no_more(caller, estimator, parameters.get("n_shots"))


def _check_takes_no_more(caller: str, estimator: Any, n_shots: int | None) -> None:
    """Raise an error if an estimator takes more rows as shots than it will be given."""
    for name, count in _shot_counts(estimator).items():
        if n_shots and isinstance(count, Integral) and int(count) > n_shots:
            msg = (
                f"{caller} gives n_shots={n_shots} rows to the estimator, which has {name}={count} "
                f"itself. Set its {name} to None, so that it takes all rows it is given. "
                f"Got {estimator!r}."
            )
            raise InvalidParameterError(msg)


def draw_seed(random_state: int | None) -> int:
    """Return the given number, or draw one for all plans of a call.

    Approaches that are compared must learn from the same rows, so they need a common seed.
    """
    if random_state is not None:
        return random_state
    return int(np.random.SeedSequence().generate_state(1)[0])


def plan_runs(
    split: Split,
    *,
    n_shots: int | None,
    n_seeds: int,
    sampler: str | ShotSampler,
    random_state: int | np.random.SeedSequence | None,
) -> list[Run]:
    """Draw the rows of every run, so that a wrong request fails before the first run."""
    chosen = get_sampler(sampler)
    if not isinstance(random_state, np.random.SeedSequence):
        random_state = np.random.SeedSequence(random_state)
    runs = []
    for child in random_state.spawn(n_seeds):
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


def prepare(estimator: Any, run: Run) -> Any:
    """Return a clone of the estimator with the seeds of the run."""
    return _with_seed(clone(estimator), run.seed)


def execute(run: Run, prepared: Any, split: Split) -> Outcome:
    """Fit a prepared estimator on the rows of the run, and test it."""
    texts = [split.X_train[i] for i in run.rows.tolist()]
    opened = perf_counter()
    for part in parts_with_models(prepared):
        part.open_model()
    started = perf_counter()
    prepared.fit(texts, split.y_train[run.rows])
    fitted = perf_counter()
    last = _last_step(prepared)
    if decides_by_probabilities(last):
        # Both come from one pass, because language models are slow.
        probabilities = np.asarray(prepared.predict_proba(split.X_test))
        predictions = decide(last, probabilities)
        ended = perf_counter()
        log_probabilities = _finite_logarithm(probabilities)
    else:
        predictions = np.asarray(prepared.predict(split.X_test))
        ended = perf_counter()
        log_probabilities = _log_probabilities(prepared, split.X_test)
    return Outcome(
        predictions=predictions.tolist(),
        classes=[] if log_probabilities is None else np.asarray(prepared.classes_).tolist(),
        log_probabilities=log_probabilities,
        loss_curves=_loss_curves(_tuned_in(last)),
        fit_seconds=fitted - started,
        predict_seconds=ended - fitted,
        loading_seconds=started - opened,
    )


def parts_with_models(estimator: Any) -> list[Any]:
    """Return the estimator and the parts of it, such as steps, that read a language model."""
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return [part for part in parts if hasattr(part, "open_model") and not isinstance(part, type)]


def _loss_curves(fitted: Any) -> list[list[float]]:
    """Return the losses of a tuned estimator, or of each member if it has ``n_seeds``."""
    # The estimators_ of other ensembles differ by more than their seeds.
    members = getattr(fitted, "estimators_", None) if hasattr(fitted, "n_seeds") else None
    curves = [getattr(member, "loss_curve_", None) for member in members or [fitted]]
    return [[float(loss) for loss in curve] for curve in curves if curve is not None]


def _last_step(estimator: Any) -> Any:
    """Return the classifier at the end of a pipeline."""
    return _last_step(estimator.steps[-1][1]) if hasattr(estimator, "steps") else estimator


def _tuned_in(classifier: Any) -> Any:
    """Return the classifier inside wrappers and pipelines."""
    if isinstance(classifier, ClassifierWrapper):
        return _tuned_in(_last_step(classifier.estimator_))
    return classifier


def _log_probabilities(estimator: Any, X: list[str]) -> NDArray[np.float64] | None:
    """Return finite log-probabilities, or ``None`` if the estimator has no probabilities."""
    if not hasattr(estimator, "predict_proba"):
        return None
    return _finite_logarithm(np.asarray(estimator.predict_proba(X), dtype=np.float64))


def _finite_logarithm(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities, _LEAST))


def _uses_no_shots(estimator: Any) -> bool:
    counts = _shot_counts(estimator).values()
    return bool(counts) and all(count == 0 for count in counts)


def _shot_counts(estimator: Any) -> dict[str, Any]:
    """Return all parameters, including nested ones, that set a number of shots."""
    parameters = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    return {n: value for n, value in parameters.items() if n.split("__")[-1] == "n_shots"}


def _with_seed(estimator: Any, seed: int) -> Any:
    """Set every ``random_state`` of the estimator, including nested ones, to a different seed."""
    names = [n for n in estimator.get_params(deep=True) if n.split("__")[-1] == "random_state"]
    seeds = np.random.SeedSequence(seed).generate_state(len(names)) >> 1
    given = dict(zip(sorted(names), seeds.tolist(), strict=True))
    return estimator.set_params(**given)
