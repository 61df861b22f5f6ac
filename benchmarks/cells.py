"""Cells of a table of accuracies: each is measured once under every seed, and its results kept.

A cell is an estimator on a task with some training rows. A raw result with the same settings is not
measured again, so a program that was stopped goes on, and several processes may work on different
cells. Settings are the parameters of the estimator, the rows, the version of the package and the
files of the model. They do not cover the code: after a change to it, delete the table.
"""

from __future__ import annotations

import argparse
import base64
import fnmatch
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from approaches import parse_parameters
from cell_settings import agree, settings_of
from measuring import RESULTS, Settings, environment, set_threads
from models import find_model
from numpy.typing import NDArray
from raw_results import RUNS, SUFFIX, RawResult, RawResults
from tasks import TASKS, Rows, Task, available, read_rows

from instructclf.evaluation.metrics import answer_weights, expected_calibration_error
from instructclf.evaluation.running import (
    Outcome,
    Run,
    execute,
    parts_with_models,
    plan_runs,
    prepare,
)
from instructclf.evaluation.splitting import Split
from instructclf.exceptions import InstructClfError, InstructClfWarning

DATA = Path(__file__).with_name("data")
_N_PROMPTS = 20


@dataclass(frozen=True, eq=False)
class Cell:
    """One estimator on one task with some training rows.

    Parameters
    ----------
    name : str
        Parts with slashes between them, which patterns select.
    task : str
        The task whose rows are read.
    estimator : estimator or None
        The estimator to measure; ``None`` with a ``measure``.
    n_rows : int or None
        Rows that are drawn for each seed; 0 for one of each label that teaches its name only,
        ``None`` for all.
    n_seeds : int
        How many seeds.
    sampler : str or sampler, default="balanced"
        Draws the rows.
    expected_s : float, default=1.0
        A guess of the seconds under one seed.
    keeps_probabilities : bool, default=False
        Whether raw results hold the log-probabilities too.
    measure : callable or None, default=None
        Takes rows and a seed and returns what the raw result holds, in place of an estimator's
        scores.
    model : str or None, default=None
        The model, where the estimator has no parameter of this name.
    """

    name: str
    task: str
    estimator: Any
    n_rows: int | None
    n_seeds: int
    sampler: Any = "balanced"
    expected_s: float = 1.0
    keeps_probabilities: bool = False
    measure: Callable[[Rows, int], dict[str, Any]] | None = None
    model: str | None = None


# Running


def run(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Print how long it will take, and measure what is missing, in this order."""
    raw = RawResults(options.out)
    where = environment(Settings(rounds=1, threads=options.threads))
    todo = [(cell, seeds) for cell in cells if (seeds := missing(cell, raw, options))]
    _announce(todo, raw, cells)
    if options.plan:
        return
    for cell, seeds in todo:
        for seed in seeds:
            started = time.perf_counter()
            try:
                result = run_one(cell, read_rows(cell.task, options.data, options.limit_test), seed)
            except ImportError as error:  # a peer that is not installed
                print(f"{cell.name}: left out. {error}", flush=True)
                break
            result["environment"] = where
            raw.append(cell.name, result)
            found = result.get("failed") or result.get("accuracy", "measured")
            print(f"{cell.name} {seed}: {found}, {time.perf_counter() - started:.0f} s", flush=True)


def missing(cell: Cell, raw: RawResults, options: argparse.Namespace) -> list[int]:
    """Return the seeds of a cell that have no result with its settings."""
    rows = read_rows(cell.task, options.data, options.limit_test)
    settings = settings_of(cell, rows)
    done = {r["seed"] for r in raw.read(cell.name) if agree(r["settings"], settings)}
    return [seed for seed in range(cell.n_seeds) if seed not in done]


def run_one(cell: Cell, rows: Rows, seed: int) -> RawResult:
    """Measure a cell under one seed and return its raw result."""
    result: RawResult = {"cell": cell.name, "seed": seed, "settings": settings_of(cell, rows)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InstructClfWarning)  # texts that are cut, on every run
        try:
            if cell.measure is not None:
                return result | cell.measure(rows, seed)
            drawn = draw(cell, rows, seed)
            prepared = prepare(cell.estimator, drawn)
            outcome, seconds = _execute(drawn, prepared, rows.split)
        except InstructClfError as error:  # such as shots that do not fit: a finding as well
            return result | {"failed": f"{type(error).__name__}: {error}"}
    result |= _describe(outcome, drawn, rows, keeps=cell.keeps_probabilities)
    return result | seconds | _about_prompts(prepared, rows.split.X_test)


def _execute(drawn: Run, prepared: Any, split: Split) -> tuple[Outcome, dict[str, float]]:
    """Execute a run, and measure the CPU seconds of loading, of fitting and of predicting."""
    fit, times = prepared.fit, [time.process_time()]
    for part in parts_with_models(prepared):
        part.open_model()
    times.append(time.process_time())

    def fit_timed(*rows: Any) -> Any:
        value = fit(*rows)
        times.append(time.process_time())
        return value

    prepared.fit = fit_timed
    outcome = execute(drawn, prepared, split)
    del prepared.fit
    load, fitting, predict = np.diff([*times, time.process_time()]).tolist()
    return outcome, {
        "load_cpu_s": load,
        "fit_cpu_s": fitting,
        "predict_cpu_s": predict,
        "cpu_s_per_text": predict / len(split.X_test),
    }


def _about_prompts(fitted: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Return the mean tokens of some prompts, and why tuning stopped, where there are such."""
    one = fitted.estimators_[0] if getattr(fitted, "n_seeds", 1) > 1 else fitted
    found: dict[str, Any] = {"stopped_by": getattr(one, "stopped_by_", None)}
    if hasattr(one, "show_prompt"):
        notes = [one.show_prompt(text).notes[0] for text in texts[:_N_PROMPTS]]
        found["prompt_tokens"] = float(np.mean([int(note.split()[0]) for note in notes]))
    return found


def draw(cell: Cell, rows: Rows, seed: int) -> Run:
    """Return the rows of one seed, as ``evaluate_seeds`` draws them for its ``random_state=0``.

    They are the same for every cell of a task with as many rows and the same sampler.
    """
    (drawn,) = plan_runs(
        rows.split,
        n_shots=cell.n_rows,
        n_seeds=1,
        sampler=cell.sampler,
        random_state=np.random.SeedSequence(0, n_children_spawned=seed),
    )
    return drawn


def _describe(outcome: Outcome, drawn: Run, rows: Rows, *, keeps: bool) -> dict[str, Any]:
    labels = rows.labels
    truth = np.searchsorted(labels, rows.split.y_test)
    predictions = np.searchsorted(labels, outcome.predictions)
    found = {
        "labels": labels,
        "truth": _encode(truth.astype(np.uint8)),
        "predictions": _encode(predictions.astype(np.uint8)),
        "accuracy": float(np.mean(truth == predictions)),
        "balanced_accuracy": float(
            np.mean((truth == predictions) * answer_weights(truth, "balanced_accuracy"))
        ),
        "n_trained": len(drawn.shots),
        "epochs": len(outcome.loss_curves[0]) if len(outcome.loss_curves) == 1 else None,
        "fit_s": outcome.fit_seconds,
        "predict_s": outcome.predict_seconds,
    }
    if outcome.log_probabilities is None:
        return found
    scores = np.full((len(truth), len(labels)), np.log(np.finfo(np.float64).tiny))
    scores[:, np.searchsorted(labels, outcome.classes)] = outcome.log_probabilities
    found["calibration_error"] = expected_calibration_error(
        np.exp(scores.max(axis=1)), scores.argmax(axis=1) == truth
    )
    found["log_loss"] = float(-scores[np.arange(len(truth)), truth].mean())
    if keeps:  # half precision: enough to average, and predictions are kept exactly
        found["log_probabilities"] = _encode(scores.clip(-6e4).astype(np.float16))
    return found


def _encode(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _announce(
    todo: Sequence[tuple[Cell, list[int]]], raw: RawResults, cells: Sequence[Cell]
) -> None:
    """Print how long each group of cells takes, in the order in which they run."""
    groups: dict[str, list[float]] = {}
    for cell, seeds in todo:
        group = "/".join(cell.name.split("/")[:2])
        groups.setdefault(group, []).append(len(seeds) * _seconds(cell, raw))
    print(f"{len(cells)} cells, {sum(len(s) for _, s in todo)} runs to do. One core, roughly:")
    for group, seconds in groups.items():
        print(f"  {group:32} {len(seconds):3} cells  {sum(seconds) / 60:7.1f} min")
    total = sum(sum(seconds) for seconds in groups.values())
    print(f"  {'all':32}            {total / 3600:7.1f} h", flush=True)


def _seconds(cell: Cell, raw: RawResults) -> float:
    """Return the mean seconds of earlier runs with as many rows, or the guess."""
    took = [
        result["fit_s"] + result["predict_s"]
        for result in raw.read(cell.name)
        if "fit_s" in result and result["settings"]["n_rows"] == cell.n_rows
    ]
    return float(np.mean(took[-5:])) if took and cell.n_rows != 0 else cell.expected_s


def select(cells: Iterable[Cell], patterns: Sequence[str] | None) -> list[Cell]:
    """Return the cells whose names match a pattern such as ``cr/*``, or exit with the reason.

    They are in the order of the patterns.
    """
    every = list(cells)
    chosen = {c.name: c for p in patterns or ("*",) for c in every if fnmatch.fnmatch(c.name, p)}
    found = list(chosen.values())
    if not found:
        tasks = ", ".join(sorted({cell.task for cell in every})) or "none"
        names = " or ".join(patterns or ("anything",))
        sys.exit(
            f"No cell is called {names}. Tasks whose rows were found: {tasks}. --data FOLDER says "
            "where the rows are."
        )
    return found


# Command line


def add_options(parser: argparse.ArgumentParser, *, name: str, seeds: int) -> None:
    """Add the options that the programs share."""
    table = RUNS / f"{name}{SUFFIX}"
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the rows")
    parser.add_argument(
        "--model", default="bundled", help="bundled, gemma3, smollm2, or a model's path or name"
    )
    parser.add_argument("--out", type=Path, default=table, help="the table of raw results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the pages")
    parser.add_argument("--cells", action="append", metavar="PATTERN", help="such as 'cr/*'")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument(
        "--set",
        dest="parameters",
        action="append",
        metavar="NAME=VALUE",
        help="a parameter of the classifiers that have it, such as model_options__dtype=bfloat16",
    )
    parser.add_argument("--limit-test", type=int, help="at most so many test rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plan", action="store_true", help="only print how long it would take")
    parser.add_argument("--table", action="store_true", help="only make the pages")


def prepare_process(options: argparse.Namespace) -> None:
    """Resolve paths and limit the threads of the process."""
    options.data, options.out = options.data.resolve(), options.out.resolve()
    options.model = find_model(options.model)
    options.parameters = parse_parameters(options.parameters)
    set_threads(options.threads)


def run_program(
    description: str,
    name: str,
    tasks: Sequence[str],
    cells_of: Callable[[Task, argparse.Namespace], Iterable[Cell]],
    write: Callable[[list[Cell], argparse.Namespace], None],
) -> None:
    """Measure the cells of these tasks as the command line says, and write the page."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=name, seeds=3)
    options = parser.parse_args()
    prepare_process(options)
    names = available(tasks, options.data)
    cells = [cell for task in names for cell in cells_of(TASKS[task], options)]
    if not options.table:
        run(select(cells, options.cells), options)
    if not options.plan:
        write(cells, options)
