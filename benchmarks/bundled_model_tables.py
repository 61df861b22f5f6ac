"""The scores of ``bundled_model.py`` → its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from cell_scores import CellScores
from numpy.typing import NDArray
from tables import Table, number
from tasks import AMAZON, REVIEWS, TASKS

APPROACHES = {
    "tuning": "instruction tuning",
    "prompting": "prompting",
    "calibrated": "zero-shot, calibrated",
    "svm": "TF-IDF + SVM",
    "majority": "majority class",
}
TARGETS = {
    f"{AMAZON}/0/zero-shot": (0.83, 0.89),
    f"{AMAZON}/8/prompting": (0.83, 0.90),
    f"{AMAZON}/8/tuning": (0.85, 0.90),
    f"{AMAZON}/all/tuning": (0.91, 0.94),
}
"""Floor and aim of an accuracy."""
_HEADLINES = {
    f"{AMAZON}/0/zero-shot": "zero-shot, with definitions",
    f"{AMAZON}/0/zero-shot-undefined": "zero-shot, without definitions",
    f"{AMAZON}/8/prompting": "prompting, 16 shots",
    f"{AMAZON}/8/tuning": "instruction tuning, 16 shots",
    f"{AMAZON}/8/svm": "TF-IDF + SVM, 16 rows",
    f"{AMAZON}/all/tuning": "instruction tuning, all rows",
    f"{AMAZON}/all/svm": "TF-IDF + SVM, all rows",
}
_SIZES = ("8", "16", "64", "all")
_VOTERS = ("regression", "prompting", "tuning")
_ZERO = ("zero-shot", "zero-shot-undefined")


def summarise(scores: CellScores) -> dict[str, Any]:
    """Return the figures of the cells, tuning against the SVM, and the vote on the reviews."""
    record = scores.record()
    differences = {
        name: scores.difference(name, name.replace("/tuning", "/svm"))
        for name in scores.scores
        if name.endswith("/tuning")
    }
    record["differences"] = {name: found for name, found in differences.items() if found}
    record["votes"] = _votes(scores)
    return record


def _votes(scores: CellScores) -> dict[str, Any]:
    """Return the accuracy of the majority of three approaches, on the seeds that all have."""
    found = {}
    for size in ("8", "all"):
        names = [f"{REVIEWS}/{size}/{voter}" for voter in _VOTERS]
        if not all(name in scores.scores for name in names):
            continue
        voters = [scores.scores[name] for name in names]
        n_seeds = min(voter.n_seeds for voter in voters)
        truth = voters[0].y_test
        if any(not np.array_equal(voter.y_test, truth) for voter in voters):
            continue
        stacked = np.stack([voter.predictions[:n_seeds] for voter in voters])
        accuracies = [float(np.mean(_majority(stacked[:, s]) == truth)) for s in range(n_seeds)]
        found[size] = {"accuracies": accuracies, "accuracy": float(np.mean(accuracies))}
    return found


def _majority(votes: NDArray[Any]) -> NDArray[Any]:
    return np.array([Counter(column.tolist()).most_common(1)[0][0] for column in votes.T])


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    tasks = dict.fromkeys(name.split("/")[0] for name in record["cells"])
    tables = [_headline(record)] if AMAZON in tasks else []
    trained = {name.split("/")[0] for name in record["cells"] if name.split("/")[1] != "0"}
    for task in tasks:
        if task in trained - {REVIEWS}:
            tables.append(_accuracies(record, task))
            if _is_unequal(record, task):
                tables.append(_accuracies(record, task, balanced=True))
    if zero := _zero_shots(record):
        tables.append(zero)
    if record["differences"]:
        tables.append(_differences(record))
    return [*tables, _seconds(record)]


def _headline(record: dict[str, Any]) -> Table:
    rows = []
    for name, title in _HEADLINES.items():
        figures = record["cells"].get(name)
        if figures is None or "failed" in figures:
            continue
        floor, aim = TARGETS.get(name, (None, None))
        rows.append(
            (
                title,
                number_of(figures["accuracy"]),
                interval_of(figures),
                number_of(figures["std"]),
                str(len(figures["seeds"])),
                verdict(figures["accuracy"], floor),
                verdict(figures["accuracy"], aim),
            )
        )
    header = ("", "accuracy", "95% interval", "sd over seeds", "seeds", "floor", "aim")
    title = "Amazon Polarity, whose test rows the model never saw"
    return Table(title, header, rows, (_tests(record, AMAZON),))


def _is_unequal(record: dict[str, Any], task: str) -> bool:
    return any(figures.get("is_unequal") for _, figures in _cells_of(record, task))


def _accuracies(record: dict[str, Any], task: str, *, balanced: bool = False) -> Table:
    rows = []
    for size in _SIZES:
        cells = [record["cells"].get(f"{task}/{size}/{name}") for name in APPROACHES]
        if any(cells):
            shown = [cell and cell.get("balanced", cell) if balanced else cell for cell in cells]
            rows.append((size, *map(cell_of, shown)))
    title = f"Balanced accuracy on {task}" if balanced else f"Accuracy on {task}"
    notes = [_tests(record, task), *_failures(record, task)]
    return Table(title, ("rows a class", *APPROACHES.values()), rows, notes)


def _zero_shots(record: dict[str, Any]) -> Table | None:
    names = [n for n in record["cells"] if n.split("/")[1] == "0" and not n.startswith(REVIEWS)]
    tasks = dict.fromkeys(name.split("/")[0] for name in names)
    rows = [
        (task, *(cell_of(record["cells"].get(f"{task}/0/{variant}")) for variant in _ZERO))
        for task in tasks
    ]
    header = ("", "names and definitions", "names only")
    note = "Where labels have no definitions, the first column has their names only."
    return Table("Zero-shot, not calibrated", header, rows, (note,)) if rows else None


def _differences(record: dict[str, Any]) -> Table:
    rows, outcomes = [], []
    for name, difference in sorted(record["differences"].items(), key=_position):
        task, size, _ = name.split("/")
        if task == REVIEWS:
            continue
        outcomes.append(outcome(difference))
        points = [f"{100 * difference[key]:+.1f}" for key in ("difference", "low", "high")]
        rows.append(
            (f"{task}, {size}", points[0], f"{points[1]} to {points[2]}",
             str(difference["n_seeds"]), outcomes[-1])
        )  # fmt: skip
    counts = Counter(outcomes)
    note = (
        f"{counts['win']} wins, {counts['tie']} ties, {counts['loss']} losses; in a tie the "
        "interval contains zero. Intervals are over seeds and texts, over texts alone for one "
        "seed; they are not adjusted for their number."
    )
    header = ("task, rows a class", "points", "95% interval", "seeds", "")
    return Table("Instruction tuning minus TF-IDF + SVM on the same rows", header, rows, (note,))


def outcome(difference: dict[str, Any]) -> str:
    """Return whether a difference is a win, a loss, or too small to tell."""
    if difference["low"] > 0:
        return "win"
    return "loss" if difference["high"] < 0 else "tie"


def _position(item: tuple[str, Any]) -> tuple[int, int, str]:
    """Sort by task and size."""
    task, size, approach = item[0].split("/")
    tasks = list(TASKS)
    first = tasks.index(task) if task in tasks else len(tasks)
    return (first, ("0", *_SIZES).index(size), approach)


def _seconds(record: dict[str, Any]) -> Table:
    rows = []
    for name, figures in sorted(record["cells"].items(), key=_position):
        task, size, approach = name.split("/")
        if "failed" in figures or approach in {"majority", "regression", "zero-shot-undefined"}:
            continue
        epochs = figures["epochs"]
        rows.append(
            (f"{task}, {size}", APPROACHES.get(approach, approach), f"{figures['n_trained']:,}",
             "" if epochs is None else number(epochs), number(figures["fit_s"]),
             number(figures["texts_per_s"]))
        )  # fmt: skip
    header = ("task, rows a class", "approach", "rows", "epochs", "fit seconds", "texts per second")
    note = f"Wall-clock seconds of a run with its calibration, measured on: {_devices(record)}."
    return Table("How long it takes", header, rows, (note,))


def _devices(record: dict[str, Any]) -> str:
    found = {figures["settings"]["device"] for figures in record["cells"].values()} - {None}
    return ", ".join(sorted(found)) or "cpu"


def tabulate_reviews(record: dict[str, Any]) -> list[Table]:
    """Return how hard the reviews that ship are."""
    approaches = ("tuning", "prompting", "calibrated", "regression", "svm", "majority")
    names = {"regression": "TF-IDF + logistic regression", **APPROACHES}
    rows = []
    zero = record["cells"].get(f"{REVIEWS}/0/zero-shot")
    if zero:
        rows.append(("bundled model, zero-shot", cell_of(zero), ""))
    for name in approaches:
        cells = [record["cells"].get(f"{REVIEWS}/{size}/{name}") for size in ("8", "all")]
        if any(cells):
            rows.append((names[name], *map(cell_of, cells)))
    if not rows:
        return []
    votes = record["votes"]
    if votes:
        found = [number_of(votes.get(size, {}).get("accuracy")) for size in ("8", "all")]
        rows.append(("vote of regression, prompting and tuning", *found))
    header = ("", "16 reviews", "all training reviews")
    note = _tests(record, REVIEWS)
    return [Table("Accuracy on the test reviews", header, rows, (note,))]


# Entries of tables


def number_of(value: float | None) -> str:
    """Return an accuracy."""
    return "—" if value is None else f"{value:.3f}"


def interval_of(figures: dict[str, Any]) -> str:
    """Return an interval."""
    return f"{figures['low']:.3f} to {figures['high']:.3f}"


def cell_of(figures: dict[str, Any] | None) -> str:
    """Return an accuracy with its interval, or why it is missing."""
    if figures is None:
        return "—"
    if "failed" in figures:
        return "does not fit"
    return f"{figures['accuracy']:.3f} [{figures['low']:.3f}, {figures['high']:.3f}]"


def verdict(value: float, target: float | None) -> str:
    """Return a target and whether it was met."""
    if target is None:
        return ""
    return f"{target:.2f}, {'met' if value >= target else '**missed**'}"


def _tests(record: dict[str, Any], task: str) -> str:
    cells = [figures for _, figures in _cells_of(record, task) if "n_test" in figures]
    n_tests, n_seeds = (c["n_test"] for c in cells), (len(c["seeds"]) for c in cells)
    return f"{span(n_tests)} test texts, {span(n_seeds)} seeds."


def span(values: Iterable[int]) -> str:
    """Return a number, or the smallest and the largest of several."""
    found = sorted(set(values))
    if not found:
        return "no"
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _failures(record: dict[str, Any], task: str) -> Sequence[str]:
    """Return why cells of a task could not run."""
    cells = _cells_of(record, task)
    reasons = (f"{name}: {figures['failed']}" for name, figures in cells if "failed" in figures)
    return list(dict.fromkeys(reasons))


def _cells_of(record: dict[str, Any], task: str) -> list[tuple[str, dict[str, Any]]]:
    return [item for item in record["cells"].items() if item[0].startswith(f"{task}/")]
