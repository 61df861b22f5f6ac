"""Cells of a table of accuracies: run once for every seed, kept as lines of JSON, read again.

A cell is an estimator on a task with some training rows. What ran leaves a line in
``<folder>/<cell>.jsonl``; a line of the same settings is not run again, so that a run that was
stopped goes on, and several processes may work on different cells of one folder. A line is
recognised by the parameters of the estimator, the rows, the seed, the version and the files of the
model. What is not seen is a change in code: then empty the folder.
"""

from __future__ import annotations

import argparse
import base64
import fnmatch
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import RESULTS, Settings, environment, set_threads
from numpy.typing import NDArray
from tasks import Rows, read_rows

import instructclf
from instructclf import bundled
from instructclf.evaluation import SeedScores
from instructclf.evaluation.metrics import expected_calibration_error
from instructclf.evaluation.running import Outcome, Run, execute, plan_runs, prepare
from instructclf.exceptions import InstructClfError, InstructClfWarning

DATA = Path(__file__).with_name("data")
RUNS = Path(__file__).with_name("runs")
_FEW = 200
"""Tables of fewer test rows say that they mean nothing."""
_UNEQUAL = 1.25
"""How much more frequent than the others a label of the test rows may be."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One estimator on one task with some training rows.

    Parameters
    ----------
    name : str
        Parts with slashes between them, what patterns select.
    task : str
        The task whose rows are read.
    estimator : estimator or None
        What is measured; ``None`` for what has a ``measure`` of its own.
    n_rows : int or None
        Rows that are drawn for each seed; 0 for one of each label that teaches its name only,
        ``None`` for all.
    n_seeds : int
        How often.
    sampler : str or sampler, default="balanced"
        What draws the rows.
    expected_s : float, default=1.0
        A guess of the seconds of one run.
    keeps_probabilities : bool, default=False
        Whether the lines hold the log-probabilities too.
    measure : callable or None, default=None
        Rows and seed → what the line holds, in place of an estimator's scores.
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


# What tells one run from another


def settings_of(cell: Cell, rows: Rows) -> dict[str, Any]:
    """Return everything that decides what a cell gives under some seed, to be read and compared."""
    parameters = cell.estimator.get_params(deep=True) if cell.estimator is not None else {}
    models = [v for k, v in parameters.items() if k.split("__")[-1] == "model"] or [cell.model]
    model = None if models[0] is None else model_digest(str(models[0]))
    return {
        "estimator": type(cell.estimator).__name__,
        "parameters": {
            name: type(value).__name__ if hasattr(value, "get_params") else repr(value)
            for name, value in sorted(parameters.items())
            if name.split("__")[-1] not in {"model", "steps", "random_state"}
        },
        "n_rows": cell.n_rows,
        "sampler": repr(cell.sampler),
        "rows": rows.digest,
        "n_test": len(rows.split.X_test),
        "model": model,
        "device": None if model is None else _device(),
        "version": instructclf.__version__,
    }


def digest(settings: Any) -> str:
    """Return a short name of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


_digests: dict[str, str] = {}


def model_digest(model: str) -> str:
    """Return a digest of the files of a model, or the name of one that is no folder."""
    if model not in _digests:
        folder = bundled.model_path() if model == "bundled" else Path(model)
        found = hashlib.sha256()
        for path in sorted(p for p in folder.glob("*") if p.suffix in {".json", ".safetensors"}):
            found.update(path.name.encode() + path.read_bytes())
        _digests[model] = found.hexdigest()[:16] if folder.is_dir() else model
    return _digests[model]


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


# Lines


class Lines:
    """A folder of JSON lines, one file a cell."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of a cell, oldest first. A line that was cut off does not count."""
        path = self._path(name)
        found = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def append(self, name: str, line: dict[str, Any]) -> None:
        """Add a line, on a line of its own even where the last one was cut off."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = not path.exists() or path.read_bytes()[-1:] in {b"\n", b""}
        with path.open("a", encoding="utf-8") as file:
            file.write(("" if whole else "\n") + json.dumps(line) + "\n")

    def names(self) -> list[str]:
        """Return the cells that have lines."""
        return sorted(p.stem.replace("~", "/") for p in self._folder.glob("*.jsonl"))

    def newest(self, name: str, model: str) -> list[dict[str, Any]]:
        """Return the lines of the settings that ran last, by seed, for this model or none."""
        lines = [n for n in self.read(name) if n["settings"]["model"] in (None, model)]
        if not lines:
            return []
        last = digest(lines[-1]["settings"])
        found = {line["seed"]: line for line in lines if digest(line["settings"]) == last}
        return [found[seed] for seed in sorted(found)]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '~')}.jsonl"


# Running


def run(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Say how long it will take, and run what has not run yet, in this order."""
    lines = Lines(options.out)
    where = environment(Settings(rounds=1, threads=options.threads))
    todo = [(cell, seeds) for cell in cells if (seeds := missing(cell, lines, options))]
    _announce(todo, lines, cells)
    if options.plan:
        return
    for cell, seeds in todo:
        for seed in seeds:
            started = time.perf_counter()
            line = run_one(cell, read_rows(cell.task, options.data, options.limit_test), seed)
            line["environment"] = where
            lines.append(cell.name, line)
            found = line.get("failed") or line.get("accuracy", "measured")
            print(f"{cell.name} {seed}: {found}, {time.perf_counter() - started:.0f} s", flush=True)


def missing(cell: Cell, lines: Lines, options: argparse.Namespace) -> list[int]:
    """Return the seeds of a cell that have no line of its settings."""
    rows = read_rows(cell.task, options.data, options.limit_test)
    own = settings_of(cell, rows)
    done = {line["seed"] for line in lines.read(cell.name) if line["settings"] == own}
    return [seed for seed in range(cell.n_seeds) if seed not in done]


def run_one(cell: Cell, rows: Rows, seed: int) -> dict[str, Any]:
    """Run a cell under one seed and return its line."""
    line: dict[str, Any] = {"cell": cell.name, "seed": seed, "settings": settings_of(cell, rows)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InstructClfWarning)  # cut texts: the context is what it is
        try:
            if cell.measure is not None:
                return line | cell.measure(rows, seed)
            drawn = draw(cell, rows, seed)
            outcome = execute(drawn, prepare(cell.estimator, drawn), rows.split)
        except InstructClfError as error:  # such as shots that do not fit: a finding as well
            return line | {"failed": f"{type(error).__name__}: {error}"}
    return line | _describe(outcome, drawn, rows, keeps=cell.keeps_probabilities)


def draw(cell: Cell, rows: Rows, seed: int) -> Run:
    """Return one seed's rows and seed, as ``evaluate_seeds`` draws them for its ``random_state=0``.

    The same for every cell of a task with as many rows and the same sampler.
    """
    (found,) = plan_runs(
        rows.split,
        n_shots=cell.n_rows,
        n_seeds=1,
        sampler=cell.sampler,
        random_state=np.random.SeedSequence(0, n_children_spawned=seed),
    )
    return found


def _describe(outcome: Outcome, drawn: Run, rows: Rows, *, keeps: bool) -> dict[str, Any]:
    labels = rows.labels
    truth = np.searchsorted(labels, rows.split.y_test)
    predictions = np.searchsorted(labels, outcome.predictions)
    found = {
        "labels": labels,
        "truth": _pack(truth.astype(np.uint8)),
        "predictions": _pack(predictions.astype(np.uint8)),
        "accuracy": float(np.mean(truth == predictions)),
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
    if keeps:  # half precision: enough to average, and what is right is kept exactly
        found["log_probabilities"] = _pack(scores.clip(-6e4).astype(np.float16))
    return found


def _pack(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _announce(todo: Sequence[tuple[Cell, list[int]]], lines: Lines, cells: Sequence[Cell]) -> None:
    """Print how long each group of cells takes, in the order in which they run."""
    groups: dict[str, list[float]] = {}
    for cell, seeds in todo:
        group = "/".join(cell.name.split("/")[:2])
        groups.setdefault(group, []).append(len(seeds) * _seconds(cell, lines))
    print(f"{len(cells)} cells, {sum(len(s) for _, s in todo)} runs to do. One core, roughly:")
    for group, seconds in groups.items():
        print(f"  {group:32} {len(seconds):3} cells  {sum(seconds) / 60:7.1f} min")
    total = sum(sum(seconds) for seconds in groups.values())
    print(f"  {'all':32}            {total / 3600:7.1f} h", flush=True)


def _seconds(cell: Cell, lines: Lines) -> float:
    """Return what runs of a cell took, or the guess where none is like it."""
    took = [
        line["fit_s"] + line["predict_s"]
        for line in lines.read(cell.name)
        if "fit_s" in line and line["settings"]["n_rows"] == cell.n_rows
    ]
    return float(np.mean(took[-5:])) if took and cell.n_rows != 0 else cell.expected_s


def select(cells: Iterable[Cell], patterns: Sequence[str] | None) -> list[Cell]:
    """Return the cells whose names fit any of the patterns (``cr/*``), or end and say why."""
    every = list(cells)
    found = [c for c in every if not patterns or any(fnmatch.fnmatch(c.name, p) for p in patterns)]
    if not found:
        tasks = ", ".join(sorted({cell.task for cell in every})) or "none"
        names = " or ".join(patterns or ("anything",))
        sys.exit(
            f"No cell is called {names}. Tasks whose rows were found: {tasks}. --data FOLDER says "
            "where rows are."
        )
    return found


# Reading


def scores_of(lines: Sequence[dict[str, Any]]) -> SeedScores:
    """Return the lines of one cell as the package's own scores, intervals and differences."""
    first = lines[0]
    labels = np.array(first["labels"])
    packed = [line.get("log_probabilities") for line in lines]
    truth = _unpack(first["truth"], np.uint8)
    shape = (len(truth), len(labels))
    return SeedScores(
        y_test=labels[truth],
        predictions=np.stack([labels[_unpack(line["predictions"], np.uint8)] for line in lines]),
        fit_seconds=np.array([line["fit_s"] for line in lines]),
        predict_seconds=np.array([line["predict_s"] for line in lines]),
        shots=[np.empty(line["n_trained"], dtype=np.intp) for line in lines],
        n_shots=first["settings"]["n_rows"],
        classes=labels,
        log_probabilities=None
        if None in packed
        else np.stack([_unpack(p, np.float16).astype(float).reshape(shape) for p in packed]),
    )


def _unpack(text: Any, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


@dataclass
class Results:
    """What is there of some cells, for one model: scores, and the record made of them."""

    lines: dict[str, list[dict[str, Any]]]
    scores: dict[str, SeedScores] = field(default_factory=dict)

    @classmethod
    def read(cls, cells: Sequence[Cell], options: argparse.Namespace) -> Results:
        """Read the newest runs of the cells, whatever the options they ran with."""
        found, store = {}, Lines(options.out)
        for cell in cells:
            lines = store.newest(cell.name, model_digest(options.model))
            if lines:  # where shots fit under some seeds only, those are the cell
                found[cell.name] = [n for n in lines if "failed" not in n] or lines[:1]
        names = {cell.name for cell in cells}
        stray = [name for name in store.names() if name in names and name not in found]
        if stray:
            print(f"Left out, as they ran with another model: {', '.join(stray)}")
        scores = {n: scores_of(own) for n, own in found.items() if "predictions" in own[0]}
        return cls(found, scores)

    def record(self) -> dict[str, Any]:
        """Return the figures of every cell, and where they were measured."""
        environments = [line["environment"] for own in self.lines.values() for line in own]
        last = max(environments, key=lambda where: where["date"])
        n_tests = [line["settings"]["n_test"] for own in self.lines.values() for line in own]
        where = last | {"toy": min(n_tests) < _FEW}
        return {"environment": where, "cells": {name: self.figures(name) for name in self.lines}}

    def figures(self, name: str) -> dict[str, Any]:
        """Return the figures of a cell."""
        own = self.lines[name]
        found: dict[str, Any] = {"settings": own[0]["settings"], "seeds": [n["seed"] for n in own]}
        if "failed" in own[0]:
            return found | {"failed": own[0]["failed"]}
        if name not in self.scores:
            measured = ("cell", "seed", "settings", "environment")
            return found | {
                "lines": [{k: v for k, v in n.items() if k not in measured} for n in own]
            }
        scores = self.scores[name]
        return found | {
            "n_test": scores.n_test,
            "n_trained": own[0]["n_trained"],
            "accuracies": scores.scores.tolist(),
            **_means(scores),
            "balanced": _means(replace(scores, scoring="balanced_accuracy")),
            "is_unequal": _is_unequal(scores.y_test),
            "calibration_error": _mean(own, "calibration_error"),
            "log_loss": _mean(own, "log_loss"),
            "epochs": _mean(own, "epochs"),
            "fit_s": float(scores.fit_seconds.mean()),
            "texts_per_s": scores.texts_per_second,
        }

    def difference(self, name: str, base: str, scoring: str = "accuracy") -> dict[str, Any] | None:
        """Return how much better one cell is than another, on the seeds that both have."""
        if name not in self.scores or base not in self.scores:
            return None
        one, other = self._common(name, base, scoring)
        if not one or not np.array_equal(one["truth"], other["truth"]):
            return None
        found = one["scores"].compare(other["scores"])
        return {
            "difference": found.difference,
            "low": found.interval.low,
            "high": found.interval.high,
            "p": found.p_value,
            "before": other["scores"].mean,
            "after": one["scores"].mean,
            "n_seeds": max(one["scores"].n_seeds, other["scores"].n_seeds),
        }

    def _common(self, name: str, base: str, scoring: str) -> tuple[dict[str, Any], dict[str, Any]]:
        both = {n: {line["seed"]: line for line in self.lines[n]} for n in (name, base)}
        seeds = sorted(both[name].keys() & both[base].keys())
        found = []
        for cell in (name, base):
            single = len(both[cell]) == 1
            chosen = [*both[cell].values()] if single else [both[cell][seed] for seed in seeds]
            if not chosen:
                return {}, {}
            scores = replace(scores_of(chosen), scoring=scoring)
            found.append({"scores": scores, "truth": scores.y_test})
        return found[0], found[1]


def _means(scores: SeedScores) -> dict[str, Any]:
    low, high = scores.interval()
    std = scores.std if scores.n_seeds > 1 else None
    return {"accuracy": scores.mean, "low": low, "high": high, "std": std}


def _is_unequal(y_test: NDArray[Any]) -> bool:
    """Say whether favouring the most frequent label would look like knowing something."""
    counts = np.unique(y_test, return_counts=True)[1]
    return bool(counts.max() > _UNEQUAL * counts.mean())


def _mean(lines: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [line[key] for line in lines if line.get(key) is not None]
    return float(np.mean(values)) if values else None


# Command line


def add_options(parser: argparse.ArgumentParser, *, name: str, seeds: int) -> None:
    """Add the options that the programs share."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the rows")
    parser.add_argument("--model", default="bundled", help="bundled, or the folder of a model")
    parser.add_argument("--out", type=Path, default=RUNS / name, help="where runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where tables go")
    parser.add_argument("--cells", action="append", metavar="PATTERN", help="such as 'cr/*'")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--limit-test", type=int, help="at most so many test rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plan", action="store_true", help="only say how long it would take")
    parser.add_argument("--table", action="store_true", help="only make the tables")


def prepare_process(options: argparse.Namespace) -> None:
    """Set what holds for the whole process."""
    options.data, options.out = options.data.resolve(), options.out.resolve()
    if options.model != "bundled" and Path(options.model).is_dir():
        options.model = str(Path(options.model).resolve())
    set_threads(options.threads)
