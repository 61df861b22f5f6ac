"""What it is worth to label the rows that `suggest_rows` suggests, instead of random ones.

    python benchmarks/suggested_rows.py --plan                how long it would take
    python benchmarks/suggested_rows.py --limit-test 500
    python benchmarks/suggested_rows.py --cells 'cr/features/*' --more 32

A classifier learns from 16 rows, equally many of every label. Further rows are chosen from 500
others, by `suggest_rows` with this classifier or at random, and it learns from all of them anew.
Cells are called task/approach/further rows/way. Under a seed both ways have the same first rows and
the same others. ``results/suggested_rows.md`` has the accuracy for each number of further rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from approaches import chosen_for, features, tuning
from cell_scores import CellScores
from cells import Cell, add_options, prepare_process, run, select
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from tables import Table, page, save_page
from tasks import AMAZON, TASKS, Task, available, read_rows

from instructclf import InstructionTunedClassifier
from instructclf.evaluation.running import Run, prepare
from instructclf.sampling import BalancedSampler, suggest_rows

NAME = "suggested_rows"
NAMES = ("cr", "sst2", "emotion", AMAZON, "reviews")
N_FIRST, N_OTHERS = 16, 500
RANDOM, SUGGESTED = "random", "suggested"


class FurtherRows(BaseEstimator):
    """A sampler of some first rows and of further ones, which are suggested or random.

    Parameters
    ----------
    way : {"random", "suggested"}
        How the further rows are chosen.
    classifier : classifier
        Learns from the first rows, and its probabilities lead to the suggestions.
    """

    def __init__(self, way: str, classifier: Any) -> None:
        self.way = way
        self.classifier = classifier

    def select(self, X: Any, y: Any, n_shots: int, *, random_state: Any = None) -> NDArray[np.intp]:
        """Return the indices of the first rows and of the further ones."""
        rng = check_random_state(random_state)
        first = BalancedSampler().select(X, y, N_FIRST, random_state=rng)
        labelled = {X[i]: y[i] for i in first.tolist()}
        others = {X[i]: i for i in rng.permutation(len(X)).tolist() if X[i] not in labelled}
        texts = [*others][:N_OTHERS]
        seed, n_more = int(rng.randint(2**31 - 1)), n_shots - N_FIRST
        chosen = range(n_more)
        if self.way == SUGGESTED and n_more:
            seeded = prepare(self.classifier, Run(first, first, seed))
            fitted = seeded.fit([*labelled], [*labelled.values()])
            chosen = suggest_rows(fitted, texts, n_more, labelled=[*labelled], random_state=seed)
        return np.array([*first, *(others[texts[i]] for i in chosen)], dtype=np.intp)


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of a task: the first rows alone, and with further ones in both ways."""
    rows = read_rows(task.name, options.data, options.limit_test)
    n_test, rates = len(rows.split.X_test), task.rates
    parameters = chosen_for(InstructionTunedClassifier, options.parameters)
    estimators = {
        "features": features(task, rows, options.model),
        "tuning": tuning(task, rows, options.model, **parameters),
    }
    for approach, estimator in estimators.items():
        for n_more in (0, *options.more):
            for way in (RANDOM, SUGGESTED) if n_more else (RANDOM,):
                n_read = n_test + (N_OTHERS if way == SUGGESTED else 0)
                n_tuned = 20 * (N_FIRST + n_more) if approach == "tuning" else 0
                yield Cell(
                    f"{task.name}/{approach}/{n_more}/{way}",
                    task.name,
                    estimator,
                    N_FIRST + n_more,
                    options.seeds,
                    sampler=FurtherRows(way, estimator),
                    expected_s=n_read * rates.text + n_tuned * rates.row_pass,
                )


def tabulate(scores: CellScores) -> Table:
    """Return the accuracy in both ways, and what suggestions add, for each number of rows."""
    lines = []
    for name in scores.scores:
        task, approach, n_more, way = name.split("/")
        if way == RANDOM and n_more != "0":
            found = scores.difference(f"{task}/{approach}/{n_more}/{SUGGESTED}", name)
            if found is not None:
                gain = f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
                start = scores.scores.get(f"{task}/{approach}/0/{RANDOM}")
                before = "" if start is None else f"{start.mean:.3f}"
                means = (before, f"{found['before']:.3f}", f"{found['after']:.3f}")
                lines.append((task, approach, n_more, *means, gain, str(found["n_seeds"])))
    header = ("task", "approach", "further rows", f"{N_FIRST} rows", RANDOM, SUGGESTED)
    note = f"Accuracy. Further rows are chosen from {N_OTHERS}. Gains have a 95 % interval."
    return Table("Rows to label next", (*header, "gain of suggestions", "seeds"), lines, (note,))


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=NAME, seeds=5)
    parser.add_argument("--more", type=int, nargs="+", default=(8, 16, 32), help="further rows")
    options = parser.parse_args()
    prepare_process(options)
    names = available(NAMES, options.data)
    cells = select((c for name in names for c in cells_of(TASKS[name], options)), options.cells)
    if not options.table:
        run(cells, options)
    if not options.plan:
        write(cells, options)


def write(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Write the page of the results there are."""
    scores = CellScores.read(cells, options)
    if not scores.results:
        print("There are no results yet.")
        return
    text = page(scores.record(), [tabulate(scores)])
    save_page(text, NAME, options.results)
    print(text)


if __name__ == "__main__":
    main()
