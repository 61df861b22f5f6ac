"""The linear classifier of `list_approaches`, beside those of a fixed strength. No language model.

    python benchmarks/bag_of_words.py
    python benchmarks/bag_of_words.py --cells 'cr/*' --table

Cells are called task/rows a label/classifier.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from approaches import regression, svm
from cells import Cell, run_program
from raw_results import RawResult, RawResults
from tables import Table, last_environment, number, page, save_page
from tasks import AMAZON, Task, read_rows

from instructclf import BagOfWordsClassifier

NAME = "bag_of_words"
MEASURED = ("cr", "sst2", "emotion", "banking77", AMAZON)
SIZES = (8, 64, None)
CLASSIFIERS = {
    "C=1": regression(),
    "LinearSVC": svm(),
    "BagOfWordsClassifier": BagOfWordsClassifier(random_state=0),
}


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of a task, few rows first."""
    rows = read_rows(task.name, options.data, options.limit_test)
    for size in SIZES:
        for name, classifier in CLASSIFIERS.items():
            yield Cell(
                f"{task.name}/{size or 'all'}/{name}",
                task.name,
                classifier,
                size and rows.n_rows(size),
                options.seeds if size else 1,
            )


def write(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Write the page of what has been measured: a line for a task and a number of rows."""
    raw, lines, last = RawResults(options.out), {}, []
    for cell in cells:
        results = [r for r in raw.read(cell.name) if r["seed"] < cell.n_seeds]
        if results:
            task, size, name = cell.name.split("/")
            lines.setdefault((task, size), {})[name] = _figures(results)
            last += [result["environment"] for result in results]
    if not lines:
        print("There are no results yet.")
        return
    header = (
        *("task", "rows a label", *(f"accuracy, {name}" for name in CLASSIFIERS)),
        *(f"log loss, {name}" for name in CLASSIFIERS if name != "LinearSVC"),
        *(f"CPU s of a fit, {name}" for name in CLASSIFIERS),
    )
    rows = [(*key, *_cells(found)) for key, found in lines.items()]
    notes = (
        f"Means over {options.seeds} draws, of all rows one. TF-IDF of words and pairs of words "
        "for all. `LinearSVC` has no probabilities.",
    )
    table = Table("Linear classifiers", header, rows, notes)
    text = page({"environment": last_environment(last)}, [table])
    save_page(text, NAME, options.results)
    print(text)


def _figures(results: Sequence[RawResult]) -> dict[str, float | None]:
    return {
        name: None if name not in results[0] else float(np.mean([r[name] for r in results]))
        for name in ("accuracy", "log_loss", "fit_cpu_s")
    }


def _cells(found: dict[str, dict[str, float | None]]) -> list[str]:
    def cell(name: str, what: str) -> str:
        return number(found.get(name, {}).get(what))

    return [
        *(cell(name, "accuracy") for name in CLASSIFIERS),
        *(cell(name, "log_loss") for name in CLASSIFIERS if name != "LinearSVC"),
        *(cell(name, "fit_cpu_s") for name in CLASSIFIERS),
    ]


if __name__ == "__main__":
    run_program(__doc__, NAME, MEASURED, cells_of, write)
