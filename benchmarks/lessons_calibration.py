"""The calibration lesson: errors that chance alone gives, and the tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from bundled_model_tables import number_of
from cell_scores import CellScores
from lessons_tables import CLASSIFIERS, base_of, of_lesson, points, tests_of
from tables import Table, number

from instructclf.evaluation.metrics import expected_calibration_error

_N_DRAWS = 20
_BY_CHANCE = (
    "The error of the same predictions with the same probabilities if these were right: whether a "
    "prediction is right is drawn with its probability, over as many texts."
)


def by_chance(scores: CellScores) -> dict[str, float]:
    """Return the calibration error of each ``base`` classifier if its probabilities were right."""
    rng = np.random.RandomState(0)
    found = {}
    for name, cell in scores.scores.items():
        if not name.startswith("base/") or cell.log_probabilities is None:
            continue
        confidences = np.exp(cell.log_probabilities.max(axis=-1))
        errors = [
            expected_calibration_error(of_seed, rng.uniform(size=of_seed.shape) < of_seed)
            for of_seed in confidences
            for _ in range(_N_DRAWS)
        ]
        found[name] = float(np.mean(errors))
    return found


def tabulate_calibration(record: dict[str, Any]) -> list[Table]:
    """Return the tables of calibrations, of the target, and of errors by chance."""
    rows = sorted(_rows(record), key=lambda row: (row[0], row[1]))
    if not rows:
        return []
    header = ("", "task", "calibration", "accuracy", "balanced accuracy", "its points over none",
              "calibration error", "log loss")  # fmt: skip
    by_chance = [
        (task, CLASSIFIERS[classifier], number_of(error))
        for name, error in record["by_chance"].items()
        for _, task, classifier in [name.split("/")]
    ]
    return [
        Table("Calibrations", header, rows, (tests_of(record, "calibration"),)),
        Table(
            'Target: `calibration="auto"` against none',
            ("", "median ratio of calibration errors", "≤ 0.5", "worst change of accuracy",
             "≥ -0.5 points"),
            list(_targets(record)),
        ),
        Table(
            "Calibration error that chance alone gives",
            ("task", "classifier", "calibration error"),
            by_chance,
            (_BY_CHANCE,),
        ),
    ]  # fmt: skip


def _rows(record: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    for task, classifier, variant in of_lesson(record, "calibration"):
        name = f"calibration/{task}/{classifier}-{variant}"
        setting, _, calibration = variant.partition("-")
        figures, difference = record["cells"][name], record["differences"].get(name)
        yield (
            f"{CLASSIFIERS[classifier]}, {_SETTINGS[setting]}",
            task,
            calibration,
            number_of(figures["accuracy"]),
            number_of(figures["balanced"]["accuracy"]),
            points(difference) if difference and calibration != "none" else "",
            number_of(figures["calibration_error"]),
            number(figures["log_loss"]),
        )


_SETTINGS = {"few": "16 labelled rows in all", "many": "16 shots, others to calibrate on"}


def _targets(record: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    cells = record["cells"]
    for setting in ("prompted-few", "prompted-many", "tuned-many"):
        ratios, changes = [], []
        for name, figures in cells.items():
            none = cells.get(base_of(name)) if name.startswith("calibration/") else None
            if none and name.endswith(f"{setting}-auto") and "accuracy" in figures:
                ratios.append(figures["calibration_error"] / none["calibration_error"])
                changes.append(100 * (figures["accuracy"] - none["accuracy"]))
        if ratios:
            classifier, _, rows = setting.partition("-")
            ratio, worst = float(np.median(ratios)), min(changes)
            yield (
                f"{CLASSIFIERS[classifier]}, {_SETTINGS[rows]}, {len(ratios)} task(s)",
                number(ratio),
                _met(ratio <= 0.5),
                f"{worst:+.1f} points",
                _met(worst >= -0.5),
            )


def _met(is_met: bool) -> str:  # noqa: FBT001
    return "met" if is_met else "**missed**"
