"""One process and two: prediction, tuning and a grid search, on the bundled model.

There are two measures, because a machine with two cores is seldom free on both: wall-clock time,
and how far the work was shared. The latter is the ratio of the CPU seconds of one process alone to
those of the busiest of two, which other work on the machine does not change.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict
from statistics import median as median_of
from typing import Any

import measuring
import models
from measuring import Settings, set_threads, timed
from sklearn.model_selection import GridSearchCV
from tables import Table, number, times

from instructclf import InstructionTunedClassifier, PromptClassifier, TrainingOptions, bundled
from instructclf.datasets import load_reviews

_SIZES = (1, 2)
_TASKS = {"prediction": "120 texts, 16 shots", "tuning": "32 rows, 2 epochs"}
_SEARCH = "grid search: 4 candidates, 2 folds, 48 rows"


def measure(settings: Settings) -> dict[str, Any]:
    """Run each task in one process and in two, in turn."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(bundled.model_path())
        if settings.toy:
            folder = models.save(models.BUNDLED, temporary, toy=True)
        options = {"folder": folder, "threads": settings.threads, "toy": settings.toy}
        runs: dict[str, dict[str, list[Any]]] = {}
        for _ in range(settings.rounds):
            for size in map(str, _SIZES):
                processes = run_together("scaling:work", int(size), **options)
                for task in _TASKS:
                    found = [process[task] for process in processes]
                    runs.setdefault(task, {}).setdefault(size, []).append(found)
            (searches,) = run_together("scaling:search", 1, **options)
            for size in map(str, _SIZES):
                runs.setdefault(_SEARCH, {}).setdefault(size, []).append([searches[size]])
    return {"runs": runs}


def run_together(entry: str, size: int, **arguments: Any) -> list[dict[str, float]]:
    """Run a function in several new interpreters, as a launcher does, and return all results."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, measuring.__file__, entry]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    for rank in range(size):
        launched = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), **address}
        process = subprocess.Popen(
            command,
            env=os.environ | (launched if size > 1 else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdin.write(json.dumps({"rank": rank, **arguments}))
        process.stdin.close()
        started.append(process)
    printed = [process.stdout.read() for process in started]
    if any(process.wait() for process in started):
        raise RuntimeError(f"{entry} failed in one of {size} processes: {printed}")
    return [json.loads(text.rpartition(measuring._MARK)[2]) for text in printed]  # noqa: SLF001


def work(*, rank: int, folder: str, threads: int, toy: bool) -> dict[str, Any]:
    """Predict and tune together with the other processes, each on one core."""
    _pin(rank)
    set_threads(threads)
    train, test = load_reviews("train"), load_reviews("test")
    texts, labels = train.texts[:32], train.labels[:32]
    prompting = PromptClassifier(folder, random_state=0).fit(texts, labels)
    prompting.predict(test.texts[:8])
    wanted = test.texts[: 16 if toy else 120]
    _, predicting = timed(lambda: prompting.predict(wanted))
    options = TrainingOptions(target_loss=0.0, tol=0.0)
    tuned = InstructionTunedClassifier(
        folder, max_epochs=2, loss="label", training_options=options, random_state=0
    )
    tuned.fit(texts[:8], labels[:8])
    n_rows = 16 if toy else 32
    _, tuning = timed(lambda: tuned.fit(texts[:n_rows], labels[:n_rows]))
    return {"prediction": asdict(predicting), "tuning": asdict(tuning)}


def search(*, rank: int, folder: str, threads: int, toy: bool) -> dict[str, Any]:
    """Search with one and with two workers, whose start counts."""
    del rank
    set_threads(threads)
    train = load_reviews("train")
    n_rows = 24 if toy else 48
    grid = {"n_shots": [2, 4], "template": ["alpaca", "alpaca_short"]}
    found = {}
    for n_jobs in _SIZES:
        searching = GridSearchCV(
            PromptClassifier(folder, random_state=0), grid, cv=2, n_jobs=n_jobs
        )
        _, timing = timed(
            lambda search=searching: search.fit(train.texts[:n_rows], train.labels[:n_rows])
        )
        found[str(n_jobs)] = asdict(timing)
    return found


def _pin(rank: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Make the table."""
    rows = []
    for task, runs in record["runs"].items():
        clock = {size: _busiest(found, "wall_s") for size, found in runs.items()}
        row = [_named(task), number(clock["1"]), number(clock["2"]), times(clock["1"] / clock["2"])]
        if task in _TASKS:
            processor = {size: _busiest(found, "cpu_s") for size, found in runs.items()}
            row += [number(processor["1"]), number(processor["2"])]
            row.append(times(processor["1"] / processor["2"]))
        else:
            row += ["", "", ""]
        rows.append(row)
    return [
        Table(
            "Scaling",
            [
                "task",
                "one: clock, s",
                "two: clock, s",
                "speed-up",
                "one: CPU, s",
                "busiest of two: CPU, s",
                "work shared",
            ],
            rows,
            [
                "Medians over rounds. Each process is pinned to a core and has one thread. "
                "The clock starts after the processes have started and the model is loaded, except "
                "in the grid search, where the start of its workers counts.",
                "A speed-up of two by the clock takes two free cores. CPU seconds show how far the "
                "work was shared, even on a busy machine.",
                "Nothing was measured on several GPUs.",
            ],
        )
    ]


def _busiest(runs: list[list[dict[str, float]]], what: str) -> float:
    return median_of(max(process[what] for process in processes) for processes in runs)


def _named(task: str) -> str:
    return f"{task}: {_TASKS[task]}" if task in _TASKS else task
