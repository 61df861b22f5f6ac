"""Split, estimator, seed → predictions and seconds: the one way in which an approach is measured.

Shots are drawn here, before any estimator sees a row, so that every approach learns from the same
rows under the same seed.
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

from instructclf.evaluation.scoring import SCORINGS, answer_weights, name_scoring
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
_LEAST = np.finfo(np.float64).tiny  # the probability of what an estimator holds impossible


class Run(NamedTuple):
    """One training and its test, before it happens."""

    rows: NDArray[np.intp]  # (n_rows,), the training rows handed to the estimator
    shots: NDArray[np.intp]  # (n_shots,), the same, or none where they only name the labels
    seed: int


class Outcome(NamedTuple):
    """What a run gave."""

    predictions: list[Any]  # (n_test,)
    classes: list[Any]  # (n_classes,), of the columns of the next; empty without these
    log_probabilities: NDArray[np.float64] | None  # (n_test, n_classes)
    loss_curves: list[list[float]]  # one for each seed that the estimator itself trains with
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
    _check_takes_no_more(caller, estimator, parameters.get("n_shots"))


def _check_takes_no_more(caller: str, estimator: Any, n_shots: int | None) -> None:
    """Raise if an estimator takes more rows as shots than it will be given."""
    for name, own in _shot_counts(estimator).items():
        if n_shots and isinstance(own, Integral) and int(own) > n_shots:
            msg = (
                f"{caller} gives n_shots={n_shots} rows to the estimator, which has {name}={own} "
                f"itself. Set its {name} to None, so that it takes all rows it is given. "
                f"Got {estimator!r}."
            )
            raise InvalidParameterError(msg)


def settle(random_state: int | None) -> int:
    """Return the number given, or one drawn for all the plans of a call.

    What is compared must learn from the same rows, which seeds of their own would not give.
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
    """Draw the rows of every run, so that a wrong request fails before the first hour of work."""
    chosen = get_sampler(sampler)
    runs = []
    for child in _spawn(random_state, n_seeds):
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
    started = perf_counter()
    prepared.fit(texts, split.y_train[run.rows])
    fitted = perf_counter()
    if _answers_with_the_likeliest(prepared):
        # Prediction and probabilities from one pass, as a language model takes its time.
        log_probabilities = np.maximum(prepared.predict_log_proba(split.X_test), np.log(_LEAST))
        predictions = prepared.classes_[log_probabilities.argmax(axis=1)]
        ended = perf_counter()
    else:
        predictions = np.asarray(prepared.predict(split.X_test))
        ended = perf_counter()
        log_probabilities = _log_probabilities(prepared, split.X_test)
    return Outcome(
        predictions=predictions.tolist(),
        classes=[] if log_probabilities is None else np.asarray(prepared.classes_).tolist(),
        log_probabilities=log_probabilities,
        loss_curves=_loss_curves(_last_step(prepared)),
        fit_seconds=fitted - started,
        predict_seconds=ended - fitted,
    )


def describe_score(outcome: Outcome, split: Split, scoring: str) -> str:
    """Return the score of a run in words, for who waits for the next one."""
    right = np.asarray(outcome.predictions) == split.y_test
    score = np.mean(right * answer_weights(split.y_test, scoring))
    return f"{name_scoring(scoring)} {score:.3f}"


def _spawn(
    random_state: int | np.random.SeedSequence | None, n_seeds: int
) -> list[np.random.SeedSequence]:
    if isinstance(random_state, np.random.SeedSequence):
        return random_state.spawn(n_seeds)
    return np.random.SeedSequence(random_state).spawn(n_seeds)


def _loss_curves(fitted: Any) -> list[list[float]]:
    """Return the losses of a tuned estimator, or of each member where it has ``n_seeds``."""
    # Other ensembles have estimators_ too, that differ by more than their seed.
    members = getattr(fitted, "estimators_", None) if hasattr(fitted, "n_seeds") else None
    curves = [getattr(own, "loss_curve_", None) for own in members or [fitted]]
    return [[float(loss) for loss in curve] for curve in curves if curve is not None]


def _last_step(estimator: Any) -> Any:
    """Return what classifies in the end, in a pipeline or behind a ``FewShot``."""
    if hasattr(estimator, "steps"):
        return _last_step(estimator.steps[-1][1])
    if hasattr(estimator, "shots_") and hasattr(estimator, "estimator_"):
        return _last_step(estimator.estimator_)
    return estimator


def _answers_with_the_likeliest(estimator: Any) -> bool:
    """Say whether ``predict`` is known to be the likeliest label, as it is for our classifiers.

    It need not be for others: a support vector machine's probabilities come from another model,
    and a tuned threshold moves predictions alone.
    """
    return hasattr(_last_step(estimator), "label_log_likelihood")


def _log_probabilities(estimator: Any, X: list[str]) -> NDArray[np.float64] | None:
    """Return finite log-probabilities, or nothing where the estimator has none."""
    if not hasattr(estimator, "predict_proba"):
        return None
    probabilities = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    return np.log(np.maximum(probabilities, _LEAST))


def _uses_no_shots(estimator: Any) -> bool:
    counts = _shot_counts(estimator).values()
    return bool(counts) and all(count == 0 for count in counts)


def _shot_counts(estimator: Any) -> dict[str, Any]:
    """Return the parameters, nested ones too, that say how many shots an estimator takes."""
    parameters = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    return {n: value for n, value in parameters.items() if n.split("__")[-1] == "n_shots"}


def _with_seed(estimator: Any, seed: int) -> Any:
    """Set every ``random_state`` of the estimator, nested ones too, each to its own seed."""
    names = [n for n in estimator.get_params(deep=True) if n.split("__")[-1] == "random_state"]
    seeds = np.random.SeedSequence(seed).generate_state(len(names)) >> 1
    given = dict(zip(sorted(names), seeds.tolist(), strict=True))
    return estimator.set_params(**given)
