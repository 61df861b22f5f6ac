"""Accuracy of tuning and prompting with the bundled model, compared with a linear classifier.

    python benchmarks/bundled_model.py --plan                 how long it would take
    python benchmarks/bundled_model.py                        everything, most important first
    python benchmarks/bundled_model.py --cells 'cr/*' --cells 'sst2/8/*'
    python benchmarks/bundled_model.py --table                pages of the results there are

Cells are called task/size/approach. A size is the number of training rows of each class, ``all``
or ``0``. All approaches learn from the same rows under the same seed. Raw results are kept in
``--out`` and not measured again; ``results/bundled_model.md`` and ``results/reviews.md`` are made
from them, whichever options they were measured with.
``--heldout`` adds files of ``negative`` and ``positive`` texts, without training rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from approaches import (
    BUNDLED_TUNING,
    MAX_EPOCHS,
    chosen_for,
    majority,
    prompting,
    regression,
    svm,
    tuning,
)
from bundled_model_tables import summarise, tabulate, tabulate_reviews
from cell_scores import CellScores
from cells import Cell, add_options, prepare_process, run, select
from tables import page, save_page
from tasks import AMAZON, REVIEWS, TASKS, Rows, Task, add_heldout, available, read_rows

from instructclf import InstructionTunedClassifier, PromptClassifier

NAME = "bundled_model"
SIZES = (8, 16, 64)
SHOTS = 16
_MANY = 20
"""Tasks of more labels run after the others: each text takes many times as long."""


def main() -> None:
    """Measure and write pages, or one of these."""
    options = _parse()
    prepare_process(options)
    add_heldout(options.heldout or ())
    fair = [name for name, task in TASKS.items() if not task.taught_bundled]
    names = available(fair, options.data)
    cells = [cell for name in names for cell in cells_of(TASKS[name], options)]
    cells = select(sorted(cells, key=_order), options.cells)
    if not options.table:
        run(cells, options)
    if not options.plan:
        write(cells, options)


def write(cells: list[Cell], options: argparse.Namespace) -> None:
    """Write the pages of the results there are."""
    scores = CellScores.read(cells, options)
    if not scores.results:
        print("There are no results yet.")
        return
    record = summarise(scores)
    text = page(record, tabulate(record))
    save_page(text, NAME, options.results)
    print(text)
    if tables := tabulate_reviews(record):
        save_page(page(record, tables), REVIEWS, options.results)


# Cells


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of a task: zero-shot, then each number of rows, then all rows."""
    rows = read_rows(task.name, options.data, options.limit_test)
    yield from _zero_shot(task, rows, options)
    if task.teaches_names_only:
        return
    sizes = (8,) if task.name == REVIEWS else SIZES
    for size in (*sizes, None):
        yield from _at_size(task, rows, size, options)


def _zero_shot(task: Task, rows: Rows, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield prompts without rows, where nothing is drawn and one run is enough."""
    zero_shot = chosen_for(PromptClassifier, options.parameters)
    zero_shot |= {"n_shots": 0, "calibration": None}
    expected = len(rows.split.X_test) * task.rates.text
    variants: dict[str, dict[str, Any]] = {"zero-shot": {}}
    if task.definitions:
        variants["zero-shot-undefined"] = {"label_definitions": None}
    for name, changes in variants.items():
        estimator = prompting(task, rows, options.model, **(zero_shot | changes))
        yield Cell(f"{task.name}/0/{name}", task.name, estimator, 0, 1, expected_s=expected)


def _at_size(
    task: Task, rows: Rows, size: int | None, options: argparse.Namespace
) -> Iterator[Cell]:
    n_rows = len(rows.split.X_train) if size is None else rows.n_rows(size)
    n_shots = max(SHOTS, len(rows.labels))
    seeds = options.full_seeds if size is None else options.seeds
    epochs = max(1, min(MAX_EPOCHS, options.row_passes // n_rows))
    n_test, rates = len(rows.split.X_test), task.rates
    n_scored = n_test + min(n_rows, 64 * len(rows.labels))  # with those that calibrate
    model = options.model
    tuned = BUNDLED_TUNING | {"max_epochs": epochs}
    tuned |= chosen_for(InstructionTunedClassifier, options.parameters)
    prompted = chosen_for(PromptClassifier, options.parameters)
    approaches = {
        "tuning": (
            tuning(task, rows, model, **tuned),
            n_rows * epochs * rates.row_pass + n_test * rates.text,
        ),
        "prompting": (
            prompting(task, rows, model, **({"n_shots": n_shots} | prompted)),
            n_scored * rates.shot_text,
        ),
        "calibrated": (
            prompting(task, rows, model, **(prompted | {"n_shots": 0})),
            n_scored * rates.text,
        ),
        "svm": (svm(), 1 + n_rows / 3000),
        "majority": (majority(), 0.1),
    }
    if task.name == REVIEWS:
        approaches["regression"] = (regression(), 1.0)
    for name, (estimator, expected) in approaches.items():
        yield Cell(
            f"{task.name}/{'all' if size is None else size}/{name}",
            task.name,
            estimator,
            None if size is None else n_rows,
            seeds,
            expected_s=expected,
        )


def _order(cell: Cell) -> tuple[int, int, float]:
    """Sort what matters most and takes least to the front, and training on all rows to the end."""
    task, size, approach = cell.name.split("/")
    stage = 2 if task in TASKS and len_labels(task) > _MANY else 1
    if task == AMAZON and size in {"0", "8"}:
        stage = 0
    if size == "all":
        stage = 3
    late = approach == "calibrated"  # nothing else is compared with it
    return (stage + 4 * late, 0 if size == "all" else int(size), cell.expected_s)


def len_labels(name: str) -> int:
    """Return how many labels a task defines, or more than `_MANY` where it defines none."""
    return len(TASKS[name].definitions or range(_MANY + 1))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=NAME, seeds=5)
    parser.add_argument("--full-seeds", type=int, default=1, help="seeds with all rows")
    parser.add_argument(
        "--row-passes",
        type=int,
        default=24_000,
        help="epochs times rows of a tuning run, at most, but one epoch at least",
    )
    parser.add_argument("--heldout", type=Path, nargs="+", help="files of texts and labels")
    return parser.parse_args()


if __name__ == "__main__":
    main()
