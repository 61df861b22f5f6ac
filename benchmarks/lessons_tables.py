"""The scores of ``lessons.py`` → tables for each lesson."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from averaging import compare_averages
from bundled_model_tables import cell_of, number_of, outcome, span
from cell_scores import CellScores
from lessons_speed import FULL, PROMPTED, TUNED
from tables import Table, number, small, times

from instructclf.evaluation.intervals import t_interval

CLASSIFIERS = {"tuned": "tuning", "prompted": "prompting", "zero": "zero-shot"}
TITLES = {
    "template": {"bare": "bare text"},
    "balance": {"random": "random rows", "skewed": "skewed rows"},
    "definitions": {"off": "no definitions"},
    "samplers": {
        "kmeans": "k-means",
        "facility_location": "facility location",
        "vote_k": "vote-k",
        "uncertain": "uncertainty",
        "certain": "certainty",
    },
    "words": {"other": "other words", "several": "several words", "letters": "letters"},
    "order": {"random": "random order"},
    "loss": {},
    "rate": {},
    "rank": {},
    "seeds": {"5": "5 seeds", "5-adapter": "5 seeds, one adapter"},
}
"""The names of variants, for the lessons that compare variants with ``base``."""
_CAPTIONS = {
    "template": "Bare text minus the Alpaca template",
    "balance": "Other draws minus balanced rows",
    "definitions": "Without definitions minus with them",
    "samplers": "Each sampler minus balanced rows drawn at random",
    "words": "Other label words minus the label names",
    "order": "Labels stated in random order minus sorted",
    "loss": "Other losses minus the default",
    "rate": "Other learning rates minus the default",
    "rank": "Other ranks minus the default",
    "seeds": "An average over seeds, all on the same sixteen rows, minus one seed",
}
SCORING = "balanced_accuracy"
"""The score of all differences, so that favouring a frequent label gains nothing."""
VERDICTS = {"win": "better", "tie": "no difference seen", "loss": "worse"}


def summarise(scores: CellScores) -> dict[str, Any]:
    """Return figures, differences from ``base``, and the effect of averaging over seeds."""
    record = scores.record()
    compared = [name for name in scores.scores if not name.startswith("peers/")]
    differences = {name: scores.difference(name, base_of(name), SCORING) for name in compared}
    record["differences"] = {name: found for name, found in differences.items() if found}
    record["averages"] = {
        name: compare_averages(replace(cell, scoring=SCORING))
        for name, cell in scores.scores.items()
        if cell.log_probabilities is not None
    }
    return record


def base_of(name: str) -> str:
    """Return the cell that a cell is compared with."""
    lesson, task, variant = name.split("/")
    if lesson == "calibration":
        return f"{lesson}/{task}/{'-'.join(variant.split('-')[:2])}-none"
    return f"base/{task}/{variant.partition('-')[0]}"


def tabulate(record: dict[str, Any]) -> dict[str, list[Table]]:
    """Return the tables of each lesson that has results."""
    found = {
        "base": [_base(record)],
        "speed": _speed(record),
        "seeds": [*_averages(record), *_against_base(record, "seeds")],
    }
    for lesson in TITLES.keys() - {"seeds"}:
        found[lesson] = _against_base(record, lesson)
    return {lesson: [t for t in tables if t.rows] for lesson, tables in found.items()}


def of_lesson(record: dict[str, Any], lesson: str) -> list[tuple[str, str, str]]:
    """Return task, classifier and variant of the cells of a lesson that have scores."""
    found = []
    for name, figures in record["cells"].items():
        first, task, variant = name.split("/")
        if first == lesson and "accuracy" in figures:
            classifier, _, rest = variant.partition("-")
            found.append((task, classifier, rest))
    return found


def _base(record: dict[str, Any]) -> Table:
    rows = [
        (
            task,
            CLASSIFIERS[classifier],
            cell_of(figures),
            cell_of(figures["balanced"]),
            number_of(figures["balanced"]["std"]),
            str(len(figures["seeds"])),
        )
        for task, classifier, _ in of_lesson(record, "base")
        for figures in [record["cells"][f"base/{task}/{classifier}"]]
    ]
    header = ("task", "classifier", "accuracy", "balanced accuracy", "its sd over seeds", "seeds")
    return Table("The settings that all variants change", header, rows, (tests_of(record, "base"),))


def _against_base(record: dict[str, Any], lesson: str) -> list[Table]:
    rows = []
    for task, classifier, variant in of_lesson(record, lesson):
        difference = record["differences"].get(f"{lesson}/{task}/{classifier}-{variant}")
        if difference is None:
            continue
        rows.append(
            (
                TITLES[lesson].get(variant, variant),
                task,
                CLASSIFIERS[classifier],
                number_of(difference["before"]),
                number_of(difference["after"]),
                points(difference),
                VERDICTS[outcome(difference)],
            )
        )
    rows.sort(key=lambda row: row[0])
    header = ("", "task", "classifier", "before", "after", "points", "")
    notes = [tests_of(record, lesson)]
    if failed := _failed(record, lesson):
        notes.append(f"Could not run: {failed}.")
    return [Table(_CAPTIONS[lesson], header, rows, notes)]


def points(difference: dict[str, Any]) -> str:
    """Return a difference in percentage points with its interval."""
    middle = f"{100 * difference['difference']:+.1f}"
    if difference["low"] is None:  # too few seeds for an interval
        return middle
    low, high = (f"{100 * difference[key]:+.1f}" for key in ("low", "high"))
    return f"{middle} [{low}, {high}]"


def tests_of(record: dict[str, Any], lesson: str) -> str:
    """Return the sentence about numbers of test texts and seeds, and the intervals."""
    items = record["cells"].items()
    cells = [c for name, c in items if name.startswith(f"{lesson}/") and "n_test" in c]
    n_tests, n_seeds = (c["n_test"] for c in cells), (len(c["seeds"]) for c in cells)
    return (
        f"{span(n_tests)} test texts, {span(n_seeds)} seed(s); 95% intervals over both, or over "
        "texts alone with one seed. They are not adjusted for their number."
    )


def _failed(record: dict[str, Any], lesson: str) -> str:
    cells = record["cells"].items()
    return "; ".join(
        n for n, figures in cells if n.startswith(f"{lesson}/") and "failed" in figures
    )


# Speed


def _speed(record: dict[str, Any]) -> list[Table]:
    rows = []
    for name, figures in record["cells"].items():
        if not name.startswith("speed/") or "results" not in figures:
            continue
        for variant, found in speeds(figures).items():
            rows.append(
                (
                    name.split("/")[1],
                    _SPEED_NAMES[variant],
                    number(found.get("fit_cpu_s")),
                    number(1 / found["cpu_s_per_text"]),
                    times(found["ratio"]),
                    found["ratio_interval"],
                    small(found.get("largest_difference")),
                )
            )
    header = ("task", "", "fit seconds", "texts per second", "time over tuning", "95% interval",
              "largest difference")  # fmt: skip
    note = (
        "CPU seconds on one thread, calibration off, each round with other rows and in another "
        "order. Full prompts: padded batches at the fastest of three sizes, logits at the labels "
        "only. The last column compares their log-likelihoods with those of the shared prefix."
    )
    return [Table("Seconds of tuning and prompting with 16 rows", header, rows, (note,))]


_SPEED_NAMES = {
    TUNED: "tuning",
    PROMPTED: "prompting",
    f"{TUNED}, {FULL}": "tuning, no shared prefix",
    f"{PROMPTED}, {FULL}": "prompting, no shared prefix",
}


def speeds(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return means over rounds by variant, and the ratio to tuning, paired by round."""
    rounds = [result["timings"] for result in figures["results"]]
    found: dict[str, dict[str, Any]] = {}
    for variant in _SPEED_NAMES:
        timings = [timings[variant] for timings in rounds]
        mean = {key: float(np.mean([one[key] for one in timings])) for key in timings[0]}
        if "largest_difference" in mean:
            mean["largest_difference"] = max(one["largest_difference"] for one in timings)
        seconds = np.array([one["cpu_s_per_text"] for one in timings])
        ratios = np.log(seconds / [timings[TUNED]["cpu_s_per_text"] for timings in rounds])
        low, high = np.exp(t_interval(ratios))
        is_known = variant != TUNED and len(rounds) > 1
        found[variant] = mean | {
            "ratio": float(np.exp(ratios.mean())),
            "ratio_interval": f"{number(low)} to {number(high)}" if is_known else "",
        }
    return found


# Averages of seeds


def _averages(record: dict[str, Any]) -> list[Table]:
    rows = []
    for name, averages in record["averages"].items():
        _, task, classifier = name.split("/")
        rows += [
            (
                task,
                CLASSIFIERS[classifier],
                str(average["n_averaged"]),
                number_of(average["single_accuracy"]),
                number_of(average["accuracy"]),
                points(average),
                f"{100 * average['single_std']:.2f}",
                f"{100 * average['std']:.2f}",
            )
            for average in averages
        ]
    header = ("task", "classifier", "seeds averaged", "one seed", "average", "points",
              "sd of one seed", "sd of the average")  # fmt: skip
    note = (
        "Means of log-probabilities over seeds that each drew sixteen rows, so an average has seen "
        "more labels than one seed. Standard deviations in points, from pairs of averages "
        "that have no seed in common. Intervals are over seeds (jackknife)."
    )
    return [Table("Averages over seeds with other rows", header, rows, (note,))]
