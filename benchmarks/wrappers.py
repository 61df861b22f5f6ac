"""What wrappers make of probabilities: how often sets hold the right label, how far scores are off.

    python benchmarks/wrappers.py --model gemma3

No model is asked: the probabilities are those that ``blending.py`` has measured, of 300 test rows
after learning from 8 rows a label. `ConformalClassifier` calibrates with 64 of these rows, and its
sets are judged by the others, in `N_SPLITS` random splits of each draw. Other scores of labels are
compared with its own: APS (Romano, Sesia and Candès, NeurIPS 2020) and RAPS (Angelopoulos et al.,
ICLR 2021), both with random numbers. `OrdinalClassifier` predicts all test rows of the task whose
labels are ordered.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from blending import CHOSEN_ON, CONFIRMED_ON
from blending import NAME as MEASURED
from blending_ways import decode
from cell_settings import model_digest, newest
from cells import add_options, prepare_process
from models import page_name
from numpy.typing import NDArray
from raw_results import RawResult, RawResults
from sklearn.base import BaseEstimator, ClassifierMixin
from tables import Table, circumstances, last_environment, markdown, save_page, section

from instructclf import ConformalClassifier, OrdinalClassifier
from instructclf.classifiers.wrapping.quantiles import find_least_probability
from instructclf.evaluation import mean_set_size, set_coverage
from instructclf.exceptions import InvalidLabelsError

NAME = "wrappers"
TASKS_OF_SETS = tuple(dict.fromkeys((*CHOSEN_ON, *CONFIRMED_ON)))
APPROACHES = ("prompting", "tuning")
SIZE, LEVEL, N_CALIBRATING, N_SPLITS = 8, 0.9, 64, 200
TARGET = (0.87, 0.93)
ORDERED, STARS = "sst5", (2, 3, 4, 1, 5)
"""Scores of negative, neutral, positive, very negative and very positive."""
_PENALTY = 0.05  # of RAPS, for each label after the first

Floats = NDArray[np.float64]


class Said(ClassifierMixin, BaseEstimator):
    """A fitted classifier of rows that are its own probabilities."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes

    def fit(self, X: Any, y: Any) -> Said:  # noqa: ARG002  (scikit-learn's)
        """Learn nothing."""
        return self

    @property
    def classes_(self) -> NDArray[np.intp]:
        """Return the codes of the labels."""
        return np.arange(self.n_classes)

    def predict_proba(self, X: Floats) -> Floats:
        """Return the rows."""
        return X

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Draw(NamedTuple):
    """What an approach says of the test rows of one draw, and their right labels."""

    probabilities: Floats
    truth: NDArray[np.intp]

    @classmethod
    def read(cls, result: RawResult) -> Draw:
        """Read a raw result."""
        truth = np.array(result["truth"])
        said = np.exp(decode(result["tested"], len(truth)))
        return cls(said / said.sum(axis=1, keepdims=True), truth)

    def split(self, rng: np.random.Generator) -> tuple[Draw, Draw]:
        """Return rows to calibrate with, and the others."""
        order = rng.permutation(len(self.truth))
        parts = np.split(order, [N_CALIBRATING])
        return Draw(*(one[parts[0]] for one in self)), Draw(*(one[parts[1]] for one in self))


# Sets


def calibrated(
    rows: Draw, asked: Draw, _rng: np.random.Generator, *, conditional: bool
) -> NDArray[np.bool_]:
    """Return the sets of `ConformalClassifier`."""
    inner = Said(rows.probabilities.shape[1])
    conformal = ConformalClassifier(
        inner, confidence_level=LEVEL, class_conditional=conditional, cv="prefit"
    )
    return conformal.fit(*rows).predict_set(asked.probabilities)


def cumulated(
    rows: Draw, asked: Draw, rng: np.random.Generator, *, penalty: float
) -> NDArray[np.bool_]:
    """Return the sets of APS, or with a penalty of RAPS."""
    scores = _cumulate(rows.probabilities, rng, penalty)
    right = scores[np.arange(len(rows.truth)), rows.truth]
    return _cumulate(asked.probabilities, rng, penalty) <= -find_least_probability(-right, LEVEL)


def _cumulate(probabilities: Floats, rng: np.random.Generator, penalty: float) -> Floats:
    """Return how probable all labels before each one are together, and a random part of its own."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    scores = np.cumsum(ranked, axis=1) - rng.random((len(ranked), 1)) * ranked
    scores += penalty * np.arange(ranked.shape[1])
    return np.take_along_axis(scores, np.argsort(order, axis=1), axis=1)


WAYS: dict[str, Callable[[Draw, Draw, np.random.Generator], NDArray[np.bool_]]] = {
    "ConformalClassifier": partial(calibrated, conditional=False),
    "class_conditional": partial(calibrated, conditional=True),
    "APS": partial(cumulated, penalty=0.0),
    "RAPS": partial(cumulated, penalty=_PENALTY),
}


class Sets(NamedTuple):
    """Figures of one way: one value for each split of each draw."""

    coverage: Floats
    size: Floats
    empty: Floats
    least_label: Floats
    hardest: Floats

    @classmethod
    def judge(cls, draws: Sequence[Draw], way: str) -> Sets | None:
        """Make sets in all splits that have enough rows, or return ``None`` where none has."""
        found = []
        for (n, draw), split in product(enumerate(draws), range(N_SPLITS)):
            rng = np.random.default_rng([n, split])  # the same splits for every way
            rows, asked = draw.split(rng)
            with suppress(InvalidLabelsError):  # too few rows of a label
                found.append(_judge(WAYS[way](rows, asked, rng), asked))
        return cls(*np.array(found).T) if found else None


def _judge(sets: NDArray[np.bool_], asked: Draw) -> tuple[float, ...]:
    sure, classes = asked.probabilities.max(axis=1), np.arange(sets.shape[1])
    hardest = sure <= np.quantile(sure, 1 / 3)
    of_labels = [sets[asked.truth == label, label].mean() for label in np.unique(asked.truth)]
    return (
        set_coverage(asked.truth, sets, classes=classes),
        mean_set_size(sets),
        float(np.mean(~sets.any(axis=1))),
        min(of_labels),
        set_coverage(asked.truth[hardest], sets[hardest], classes=classes),
    )


# Tables

Measured = dict[tuple[str, str], list[Draw]]


def tabulate_sets(found: Measured) -> Table:
    """Return the coverage and the size of the sets of `ConformalClassifier`."""
    lines = []
    for (task, approach), draws in found.items():
        sets = Sets.judge(draws, "ConformalClassifier")
        if sets is None:  # too few test rows
            continue
        low, high = np.quantile(sets.coverage, [0.05, 0.95])
        accuracy = np.mean([np.mean(p.argmax(axis=1) == truth) for p, truth in draws])
        lines.append(
            (
                f"{task}, {approach}",
                str(draws[0].probabilities.shape[1]),
                str(len(draws)),
                f"{accuracy:.2f}",
                f"{sets.coverage.mean():.3f}",
                "met" if TARGET[0] <= sets.coverage.mean() <= TARGET[1] else "**missed**",
                f"{low:.2f} to {high:.2f}",
                f"{sets.size.mean():.2f}",
                f"{sets.empty.mean():.2f}",
            )
        )
    header = (
        "task, approach", "labels", "draws", "accuracy", "coverage",
        f"{TARGET[0]} to {TARGET[1]}", "9 of 10 splits", "labels in a set", "empty sets",
    )  # fmt: skip
    note = (
        f"Sets at a level of {LEVEL}, calibrated with {N_CALIBRATING} test rows and judged by the "
        f"others, in {N_SPLITS} random splits of each draw. Coverage is the share of sets that "
        "contain the right label."
    )
    return Table("Sets of `ConformalClassifier`", header, lines, (note,))


def tabulate_ways(found: Measured) -> Table:
    """Return what sets of other kinds cover, and how large they are."""
    lines = []
    for (task, approach), draws in found.items():
        for way in WAYS:
            sets = Sets.judge(draws, way)
            figures = ("—",) * 4 if sets is None else (
                f"{sets.coverage.mean():.3f}",
                f"{sets.size.mean():.2f}",
                f"{sets.least_label.mean():.2f}",
                f"{sets.hardest.mean():.2f}",
            )  # fmt: skip
            lines.append((f"{task}, {approach}", way, *figures))
    header = (
        "task, approach", "sets", "coverage", "labels in a set", "of the least covered label",
        "of the least sure third",
    )  # fmt: skip
    notes = (
        "The last columns are the coverage of the label that is in its sets least often, and of "
        "the third of the texts whose likeliest label is least probable.",
        "`class_conditional` is judged in splits where each label has 9 rows to calibrate with, as "
        "many as it needs. —: there are none.",
    )
    return Table("Sets of all kinds", header, lines, notes)


def tabulate_scores(found: Measured) -> Table:
    """Return the errors of ordered labels: of the most probable, of the median and of the mean."""
    lines = []
    for (task, approach), draws in found.items():
        if task != ORDERED:
            continue
        errors = np.mean([_errors(draw) for draw in draws], axis=0)
        lines.append((approach, str(len(draws)), *(f"{error:.3f}" for error in errors)))
    header = (
        "approach", "draws", "most probable: absolute error", "median: absolute error",
        "most probable: squared error", "median: squared error", "mean: squared error",
        "most probable: accuracy", "median: accuracy",
    )  # fmt: skip
    note = f"Stars from 1 to 5 of {ORDERED}, 300 test rows, means over draws."
    return Table("Stars of `OrdinalClassifier`", header, lines, (note,))


def _errors(draw: Draw) -> list[float]:
    stars = np.array(STARS)
    ordinal = OrdinalClassifier(Said(len(stars)), scores=dict(enumerate(STARS)))
    ordinal.fit(*draw)
    truth, likeliest = stars[draw.truth], stars[draw.probabilities.argmax(axis=1)]
    median = stars[ordinal.predict(draw.probabilities)]
    off = [np.abs(given - truth) for given in (likeliest, median)]
    mean = ordinal.expected_score(draw.probabilities) - truth
    squared = [*(one**2 for one in off), mean**2]
    right = [one == 0 for one in off]
    return [float(np.mean(one)) for one in (*off, *squared, *right)]


def main() -> None:
    """Read what was measured, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=MEASURED, seeds=3)
    options = parser.parse_args()
    prepare_process(options)
    write(TASKS_OF_SETS, options)


def write(tasks: Sequence[str], options: argparse.Namespace) -> None:
    """Write the page of these tasks."""
    raw, found, where = RawResults(options.out), {}, []
    for task in tasks:
        for approach in APPROACHES:
            cell = raw.read(f"{task}/{SIZE}/{approach}")
            if results := newest(cell, model_digest(options.model)):
                found[task, approach] = [Draw.read(result) for result in results]
                where += [result["environment"] for result in results]
    if not found:
        print(f"There are no results yet: run benchmarks/{MEASURED}.py with this model first.")
        return
    tables = {
        "sets": tabulate_sets(found),
        "ways": tabulate_ways(found),
        "scores": tabulate_scores(found),
    }
    parts = [section(name, markdown(table)) for name, table in tables.items() if table.rows]
    last = circumstances(last_environment(where))
    text = "\n".join([*parts, section("circumstances", last)])
    save_page(text, page_name(NAME, options.model), options.results)
    print(text)


if __name__ == "__main__":
    main()
