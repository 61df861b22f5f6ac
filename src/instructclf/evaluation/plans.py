"""Plans → runs, executed one after the other → the scores of each plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral
from os import PathLike
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray

from instructclf.engine.running.progress import Progress
from instructclf.evaluation.metrics import answer_weights, name_scoring
from instructclf.evaluation.remaining import Cost, RemainingTime
from instructclf.evaluation.running import Outcome, Run, parts_with_models
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.splitting import Split
from instructclf.evaluation.storing import execute_once

_Result = TypeVar("_Result")

_IMPOSSIBLE = float(np.log(np.finfo(np.float64).tiny))


class Plan(NamedTuple):
    """The runs of one estimator, before they are executed."""

    estimator: Any
    split: Split
    runs: Sequence[Run]
    n_shots: int | None  # as the user gave it


def execute_plans(
    task: str,
    plans: Mapping[str, Plan],
    *,
    scoring: str,
    folder: str | PathLike[str] | None,
    verbose: int | bool,
) -> dict[str, SeedScores]:
    """Execute all runs of all plans, and return the scores of each plan."""
    calls = {
        name: [partial(execute_once, run, plan.estimator, plan.split, folder) for run in plan.runs]
        for name, plan in plans.items()
    }

    def describe(name: str, outcome: Outcome) -> str:
        y_test = plans[name].split.y_test
        right = np.asarray(outcome.predictions) == y_test
        return f"{name_scoring(scoring)} {np.mean(right * answer_weights(y_test, scoring)):.3f}"

    costs = {name: _estimate_cost(plan) for name, plan in plans.items()}
    outcomes = call_all(task, calls, describe, verbose=verbose, costs=costs, seconds=_count_seconds)
    return {name: _collect(plan, outcomes[name], scoring) for name, plan in plans.items()}


def call_all(
    task: str,
    calls: Mapping[str, Sequence[Callable[[], _Result]]],
    describe: Callable[[str, _Result], str],
    *,
    verbose: int | bool,
    costs: Mapping[str, Cost] | None = None,
    seconds: Callable[[_Result], float] = lambda _: 0.0,
) -> dict[str, list[_Result]]:
    """Make the calls of one group after the other, and show a progress bar.

    ``seconds`` tells how long a result took, which may have been read instead of computed.
    """
    results: dict[str, list[_Result]] = {name: [] for name in calls}
    counts = {name: len(group) for name, group in calls.items()}
    left = RemainingTime(counts, costs or dict.fromkeys(calls, Cost()))
    with Progress(task, sum(counts.values()), verbose=verbose, alike=False) as progress:
        for name, group in calls.items():
            progress.advance(0, name, left.estimate())
            try:
                for took, n_jobs, result in _call(group):
                    results[name].append(result)
                    left.add(name, seconds(result) / n_jobs or took)
                    note = (name, describe(name, result))
                    progress.advance(1, ", ".join(filter(None, note)), left.estimate())
            except Exception as error:
                if name:
                    error.add_note(f"This happened during {task}, at {name!r}.")
                raise
    return results


def _call(group: Sequence[Callable[[], _Result]]) -> Iterable[tuple[float, int, _Result]]:
    """Yield the seconds of each call, the number of workers, and the result.

    The workers are those of a surrounding ``joblib.parallel_config``, if any.
    """
    default: Any = None
    n_jobs = min(len(group), effective_n_jobs(default))
    started = perf_counter()
    if n_jobs > 1:
        results: Any = Parallel()(delayed(call)() for call in group)
        took = (perf_counter() - started) / len(group)
        yield from ((took, n_jobs, result) for result in results)
        return
    for call in group:
        started = perf_counter()
        result = call()
        yield perf_counter() - started, 1, result


def _estimate_cost(plan: Plan) -> Cost:
    """Compare runs on the same language models: each epoch passes rows forwards and backwards."""
    parameters = plan.estimator.get_params(deep=True)
    n_epochs = sum(
        value
        for name, value in parameters.items()
        if name.split("__")[-1] == "max_epochs" and isinstance(value, Integral)
    )
    models = tuple(str(part.model) for part in parts_with_models(plan.estimator))
    n_rows = len(plan.runs[0].rows)
    return Cost(models, len(plan.split.X_test) + n_rows * (1 + 3 * int(n_epochs)))


def _count_seconds(outcome: Outcome) -> float:
    return outcome.fit_seconds + outcome.predict_seconds


def _collect(plan: Plan, outcomes: Sequence[Outcome], scoring: str) -> SeedScores:
    """Put the outcomes of all runs of a plan together."""
    split = plan.split
    known = [split.y_train.tolist(), split.y_test.tolist(), *(found.classes for found in outcomes)]
    classes = np.unique(np.array([label for labels in known for label in labels]))
    has_scores = all(outcome.log_probabilities is not None for outcome in outcomes)
    return SeedScores(
        y_test=split.y_test,
        predictions=np.array([outcome.predictions for outcome in outcomes]),
        fit_seconds=np.array([outcome.fit_seconds for outcome in outcomes]),
        predict_seconds=np.array([outcome.predict_seconds for outcome in outcomes]),
        shots=[run.shots for run in plan.runs],
        n_shots=plan.n_shots,
        classes=classes,
        log_probabilities=np.stack([_align(outcome, classes) for outcome in outcomes])
        if has_scores
        else None,
        loss_curves=[np.array(curve) for outcome in outcomes for curve in outcome.loss_curves],
        scoring=scoring,
        loading_seconds=sum(outcome.loading_seconds for outcome in outcomes),
    )


def _align(outcome: Outcome, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return a column for each class, including those that the estimator never saw."""
    scores = np.asarray(outcome.log_probabilities)
    aligned = np.full((len(scores), len(classes)), _IMPOSSIBLE)
    aligned[:, np.searchsorted(classes, outcome.classes)] = scores
    return aligned
