"""How often another order of the labels flips an answer, and what averaging over orders gains.

    python benchmarks/label_order.py --model gemma3 --limit-test 100
    python benchmarks/label_order.py --model gemma3 --limit-test 100 --table

Cells are called task/shots/way. All ways learn from the same rows, 16 a label: one prompt, labels
that are read side by side, several prompts with the same order, and as many with cyclic orders. The
third tells how much of the gain of the last is that of several prompts; tasks of many labels are
measured without these two, which take a prompt a label.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from approaches import prompting
from cell_settings import model_digest, newest
from cells import Cell, draw, run_program
from models import page_name, slowness
from raw_results import RawResults
from tables import Table, last_environment, number, page, save_page
from tasks import TASKS, Rows, Task, read_rows

from instructclf.evaluation import label_order_report

NAME = "label_order"
MEASURED = ("cr", "sst2", "emotion", "banking77")
WAYS = ("one prompt", "unordered", "several prompts", "cyclic orders")
SHOTS = (0, 16)
_PER_CLASS, _N_ORDERS, _MOST_PROMPTS = 16, 3, 10


def parameters_of(way: str, n_labels: int) -> dict[str, Any]:
    """Return the parameters of a classifier."""
    if way == "one prompt":
        return {}
    if way == "unordered":
        return {"label_order": "unordered"}
    return {"n_seeds": n_labels, "label_order": "cyclic" if way == "cyclic orders" else "sorted"}


def measure(
    cell: Cell, parameters: dict[str, Any], model: str, rows: Rows, seed: int
) -> dict[str, Any]:
    """Return flip rates, the accuracy with each order, and the CPU seconds of one prediction."""
    taken = draw(cell, rows, seed).shots
    texts, labels = [rows.split.X_train[i] for i in taken], rows.split.y_train[taken]
    classifier = prompting(
        TASKS[cell.task],
        rows,
        model,
        random_state=seed,
        model_options__dtype="bfloat16",
        **parameters,
    ).fit(texts, labels)
    asked, truth = rows.split.X_test, rows.split.y_test
    classifier.predict(asked[:1])
    started = time.process_time()
    classifier.predict(asked)
    seconds = (time.process_time() - started) / len(asked)
    report = label_order_report(classifier, asked, n_orders=_N_ORDERS, random_state=seed)
    every = [report.predictions, *report.reordered]
    return {
        "flip_rate": report.flip_rate,
        "flipped_texts": report.flipped_texts,
        "n_orders": len(report.orders),
        "accuracies": [float(np.mean(found == truth)) for found in every],
        "cpu_s_per_text": seconds,
    }


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of a task, cheap ones first."""
    rows = read_rows(task.name, options.data, options.limit_test)
    n_labels, n_rows = len(rows.labels), rows.n_rows(_PER_CLASS)
    for n_shots in SHOTS:
        for way in WAYS:
            if n_shots == 0 and way == "several prompts":
                continue  # which would all be the same
            parameters = {"n_shots": n_shots, **parameters_of(way, n_labels)}
            if parameters.get("n_seeds", 1) > _MOST_PROMPTS:
                continue
            asked = len(rows.split.X_test) * (2 + min(_N_ORDERS, n_labels))
            passes = parameters.get("n_seeds", 1) * (n_rows + asked)
            drawn = Cell(f"{task.name}/draw", task.name, None, n_rows, 1)
            yield Cell(
                f"{task.name}/{n_shots}/{way.replace(' ', '-')}",
                task.name,
                None,
                n_rows,
                options.seeds,
                expected_s=slowness(options.model) * task.rates.text * passes,
                measure=partial(measure, drawn, parameters, options.model),
                model=options.model,
            )


def write(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Write the page of what has been measured."""
    raw, rows, last, n_test = RawResults(options.out), [], [], 0
    for cell in cells:
        results = newest(raw.read(cell.name), model_digest(options.model))
        if results:
            rows.append(_row(cell, results))
            last += [result["environment"] for result in results]
            n_test = results[-1]["settings"]["n_test"]
    if not rows:
        print("There are no results yet.")
        return
    header = (
        *("task", "shots", "way", "draws", "order flip rate", "texts with several answers"),
        *("accuracy", "least accuracy of any order", "CPU ms a text"),
    )
    notes = (
        f"Means over draws of {_PER_CLASS} rows a label, {n_test} test texts, and up to "
        f"{_N_ORDERS} other orders (two labels have one). Members of cyclic orders are as many as "
        "labels, and keep their orders relative to each other.",
    )
    table = Table("Other orders of the labels", header, rows, notes)
    text = page({"environment": last_environment(last)}, [table])
    save_page(text, page_name(NAME, options.model), options.results)
    print(text)


def _row(cell: Cell, results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    task, shots, way = cell.name.split("/")
    accuracy = np.array([[one["accuracies"][0], min(one["accuracies"])] for one in results])
    flips = np.array([[one["flip_rate"], one["flipped_texts"]] for one in results]).mean(axis=0)
    seconds = float(np.mean([one["cpu_s_per_text"] for one in results]))
    figures = [f"{value:.3f}" for value in (*flips, *accuracy.mean(axis=0))]
    return task, shots, way.replace("-", " "), str(len(results)), *figures, number(1000 * seconds)


if __name__ == "__main__":
    run_program(__doc__, NAME, MEASURED, cells_of, write)
