"""Decision models beside our classifiers: the same model, rows, question, options and definitions.

    python benchmarks/decisions.py --model gemma3
    python benchmarks/decisions.py --model gemma3 --cells '*/anyjev*' --seeds 1
    python benchmarks/decisions.py --model gemma3 --table

Cells are called task/way. Each draw takes `N_TEST` test rows at random, and 16 other rows in all
for the ways that learn. Everybody reads one transformers folder, which is made from the GGUF file,
and predicts in bfloat16, except any2jev, which keeps the float32 that it trains in. Peers that are
not installed are left out.

How the peers are asked was chosen on training rows: `peers.decision_models` says what was tried.
AnyJev runs at level L0 with its default prior, that of all texts of a call, which therefore knows
more than ours: all `N_TEST` texts. ``raw`` is its single prompt. Its ``canonical_order``, which
sorts the options, is off: sorted options cannot flip, nor can our sorted labels, and the order flip
rate is about what happens where the order differs. any2jev trains, and so gets the 16 rows.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from approaches import prompting, tuning
from blending_ways import encode
from cell_settings import model_digest, newest
from cells import Cell, add_options, draw, prepare_process, run, select
from models import as_folder, page_name, slowness
from numpy.typing import NDArray
from peers.decision_models import Any2Jev, AnyJev
from raw_results import RawResult, RawResults
from tables import Table, last_environment, number, page, save_page
from tasks import TASKS, Rows, Task, available, prompt_options, read_rows

from instructclf.evaluation import coverage_at_risk, label_order_report
from instructclf.evaluation.metrics import answer_weights, expected_calibration_error
from instructclf.evaluation.running import parts_with_models

NAME = "decisions"
N_TEST, N_ROWS = 200, 16
N_FLIPPED, N_ORDERS = 40, 2
"""The first so many texts are asked with so many other orders of the labels."""
QUESTIONS = {
    "cr": "What does the reviewer think of the product?",
    "sst2": "What does the reviewer think of the film?",
    "emotion": "Which emotion does the writer feel?",
    "reviews": "What does the reviewer think of the product?",
}
DEFINED = re.compile("SmolLM2")
"""Models for which AnyJev's options have definitions.

On some training rows of CR, definitions helped SmolLM2 and harmed Gemma 3 270M.
"""
MEASURED = ("cr", "sst2", "emotion")
WAYS = {
    "anyjev-raw": "AnyJev, one prompt",
    "anyjev": "AnyJev, L0",
    "zero-shot": "prompting, no shots",
    "unordered": "prompting, no shots, unordered labels",
    "cyclic": "prompting, no shots, cyclic orders",
    "calibrated": "prompting, no shots, calibrated on 16 rows",
    "prompting": "prompting, 16 rows",
    "prompting-unordered": "prompting, 16 rows, unordered labels",
    "tuning": "tuning, 16 rows",
    "any2jev": "any2jev, 16 rows",
}
LEARNING = ("calibrated", "prompting", "prompting-unordered", "tuning", "any2jev")
_BFLOAT16 = {"model_options__dtype": "bfloat16"}
_FIGURES = ("accuracy", "balanced_accuracy", "calibration_error", "flip_rate", "coverage")


# Measuring


def make(way: str, task: Task, rows: Rows, model: str, seed: int) -> Any:
    """Return the classifier of a way."""
    asked = {**prompt_options(task, rows.labels), "instruction": QUESTIONS[task.name]}
    if way.startswith("anyjev"):
        if not DEFINED.search(Path(model).name):
            asked["label_definitions"] = None
        return AnyJev(model, **asked, level="raw" if way == "anyjev-raw" else "L0")
    if way == "any2jev":
        return Any2Jev(model, **asked, random_state=seed)
    ours = {"instruction": QUESTIONS[task.name], "random_state": seed, **_BFLOAT16}
    if way == "tuning":
        return tuning(task, rows, model, **ours)
    if way.endswith("unordered"):
        ours |= {"label_order": "unordered"}
    if way.startswith("prompting"):
        return prompting(task, rows, model, n_shots=None, **ours)
    if way == "cyclic":
        ours |= {"label_order": "cyclic", "n_seeds": len(rows.labels)}
    calibration = "auto" if way == "calibrated" else None
    return prompting(task, rows, model, n_shots=0, calibration=calibration, **ours)


def measure(cell: Cell, way: str, model: str, rows: Rows, seed: int) -> dict[str, Any]:
    """Return how good the answers of a way are, how often they flip, and the CPU seconds."""
    classifier = make(way, TASKS[cell.task], rows, model, seed)
    for part in parts_with_models(classifier):
        part.open_model()
    asked, truth = tested_rows(rows, seed)
    texts, labels = learned_rows(cell, way, rows, seed)
    started = time.process_time()
    classifier.fit(texts, labels).predict(asked[:1])  # the first one checks the way to compute
    once = time.process_time() - started
    return {"once_cpu_s": once, **judge(classifier, asked, truth, rows.labels, seed)}


def judge(
    classifier: Any, asked: list[str], truth: NDArray[Any], labels: list[str], seed: int
) -> dict[str, Any]:
    """Return the figures of a fitted classifier on texts, of which the first also flip."""
    started = time.process_time()
    said = align(classifier.classes_, classifier.predict_proba(asked), labels)
    seconds = time.process_time() - started
    correct = np.array(labels)[said.argmax(axis=1)] == truth
    return {
        "truth": np.searchsorted(labels, truth).tolist(),
        "probabilities": encode(said),
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float((correct * answer_weights(truth, "balanced_accuracy")).mean()),
        "calibration_error": expected_calibration_error(said.max(axis=1), correct),
        "coverage": coverage_at_risk(truth, said, risk=0.05, classes=labels),
        **flips(classifier, asked[:N_FLIPPED], seed),
        "cpu_s_per_text": seconds / len(asked),
    }


def learned_rows(cell: Cell, way: str, rows: Rows, seed: int) -> tuple[list[str], Any]:
    """Return the rows of a draw, or label names only for ways that do not learn."""
    if way not in LEARNING:
        return rows.labels, rows.labels
    shots = draw(cell, rows, seed).shots
    return [rows.split.X_train[i] for i in shots], rows.split.y_train[shots]


def tested_rows(rows: Rows, seed: int) -> tuple[list[str], NDArray[Any]]:
    """Return the test rows of a draw, which are the same for all ways."""
    order = np.random.RandomState(seed).permutation(len(rows.split.X_test))[:N_TEST]
    return [rows.split.X_test[i] for i in order], np.asarray(rows.split.y_test)[order]


def align(classes: NDArray[Any], said: NDArray[Any], labels: Sequence[str]) -> NDArray[np.float64]:
    """Return probabilities with a column for each label, and rows that sum to 1."""
    found = np.zeros((len(said), len(labels)))
    found[:, np.searchsorted(labels, classes)] = said
    return found / found.sum(axis=1, keepdims=True)


def flips(classifier: Any, texts: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the order flip rate, and the share of texts that have more than one answer."""
    if not hasattr(classifier, "order"):
        report = label_order_report(classifier, texts, n_orders=N_ORDERS, random_state=seed)
        changed = report.flips
    else:
        before = classifier.predict(texts)
        orders = other_orders(len(classifier.classes_), seed)
        answers = [classifier.set_params(order=order).predict(texts) for order in orders]
        changed = np.array(answers) != before
    return {
        "flip_rate": float(changed.mean()),
        "flipped_texts": float(changed.any(axis=0).mean()),
        "n_orders": len(changed),
        "n_flipped": len(texts),
    }


def other_orders(n_labels: int, seed: int) -> list[tuple[int, ...]]:
    """Return some orders of the labels that differ from the sorted one, or all if they are few."""
    every = list(permutations(range(n_labels)))[1:]
    n_drawn = min(N_ORDERS, len(every))
    drawn = np.random.RandomState(seed).choice(len(every), n_drawn, replace=False)
    return [every[i] for i in drawn]


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of a task."""
    rows = read_rows(task.name, options.data, options.limit_test)
    n_labels = len(rows.labels)
    asked = N_TEST + N_FLIPPED * min(1 + N_ORDERS, n_labels)
    for way in WAYS:
        passes = asked * (n_labels if way in {"anyjev", "cyclic"} else 1)
        trained = 10 * N_ROWS * (way in {"tuning", "any2jev"})
        seconds = passes * task.rates.text + trained * task.rates.row_pass
        drawn = Cell("", task.name, None, N_ROWS, 1)
        yield Cell(
            f"{task.name}/{way}",
            task.name,
            None,
            N_ROWS if way in LEARNING else 0,
            options.seeds,
            expected_s=slowness(options.model) * seconds,
            measure=partial(measure, drawn, way, options.model),
            model=options.model,
        )


# The page


def write(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Write the page of what has been measured."""
    raw, rows, last = RawResults(options.out), [], []
    for cell in cells:
        if results := newest(raw.read(cell.name), model_digest(options.model)):
            rows.append(_row(cell, results))
            last += [result["environment"] for result in results]
    if not rows:
        print("There are no results yet.")
        return
    header = (
        *("task", "way", "draws", "accuracy", "balanced accuracy", "calibration error"),
        *("order flip rate", "decided at 5 % risk", "once, CPU s", "CPU ms a text"),
    )
    notes = (
        f"Means over draws of {N_TEST} test texts, and of {N_ROWS} rows in all to learn from. The "
        f"calibration error is the expected one with 15 bins. Flips are those of {N_FLIPPED} texts "
        f"and up to {N_ORDERS} other orders (two labels have one). The share decided is the "
        "largest on these texts at 5 % risk. Once: fitting and the first text, without loading the "
        "model, except for any2jev, which loads it itself.",
    )
    table = Table("Decision models and our classifiers", header, rows, notes)
    text = page({"environment": last_environment(last)}, [table])
    save_page(text, page_name(NAME, options.model), options.results)
    print(text)


def _row(cell: Cell, results: Sequence[RawResult]) -> tuple[str, ...]:
    task, way = cell.name.split("/")
    figures = [f"{np.mean([one[name] for one in results]):.3f}" for name in _FIGURES]
    once, text = (
        float(np.mean([one[name] for one in results])) for name in ("once_cpu_s", "cpu_s_per_text")
    )
    return task, WAYS[way], str(len(results)), *figures, number(once), number(1000 * text)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=NAME, seeds=3)
    options = parser.parse_args()
    prepare_process(options)
    options.model = as_folder(options.model)
    cells = [
        cell
        for name in available(MEASURED, options.data)
        for cell in cells_of(TASKS[name], options)
    ]
    if not options.table:
        run(select(cells, options.cells), options)
    if not options.plan:
        write(cells, options)


if __name__ == "__main__":
    main()
