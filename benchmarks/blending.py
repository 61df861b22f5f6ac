"""How several approaches are best combined, from what each of them says of held-out rows.

    python benchmarks/blending.py --model gemma3 --plan
    python benchmarks/blending.py --model gemma3 --limit-test 500 --seeds 3
    python benchmarks/blending.py --model gemma3 --limit-test 500 --cells 'cr/8/*'
    python benchmarks/blending.py --model gemma3 --limit-test 500 --table

Cells are called task/rows a label/approach. Each cross-validates an approach in four folds, and
keeps its log-probabilities of the rows held out and of `N_TEST` test rows. The ways of combining
are then compared on these, without a model: `BlendedClassifier` is ``blend`` and, with
``method="best"``, ``best log loss``. Ways are chosen on the tasks in `CHOSEN_ON` and confirmed on
those in `CONFIRMED_ON`. A draw counts if all approaches have been measured on it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from approaches import features, prompting, tuning
from blending_ways import WAYS, Floats, Scores, encode, score
from cell_settings import model_digest, newest
from cells import Cell, add_options, draw, prepare_process, run, select
from models import page_name, slowness
from numpy.typing import NDArray
from raw_results import RawResult, RawResults
from sklearn.model_selection import StratifiedKFold
from tables import Table, circumstances, last_environment, markdown, number, save_page, section
from tasks import AMAZON, TASKS, Rows, Task, available, read_rows

from instructclf import BagOfWordsClassifier
from instructclf.classifiers.wrapping.trials import align

NAME = "blending"
CHOSEN_ON = ("cr", AMAZON, "emotion")
CONFIRMED_ON = ("sst2", "sst5", "dbpedia14")
SIZES = (8, 16)
N_TEST, N_FOLDS = 300, 4
_BFLOAT16 = {"model_options__dtype": "bfloat16"}
_SEEDED = {**_BFLOAT16, "random_state": 0}


# Measuring


def make(approach: str, task: Task, rows: Rows, model: str) -> Any:
    """Return the classifier of an approach."""
    if approach == "prompting":
        return prompting(task, rows, model, n_shots=None, **_SEEDED)
    if approach == "tuning":
        return tuning(task, rows, model, **_SEEDED)
    if approach == "words":
        return BagOfWordsClassifier(random_state=0)
    return features(task, rows, model, **_BFLOAT16)


APPROACHES = ("prompting", "tuning", "words", "features")
LISTED = APPROACHES[:3]
"""Those of `instructclf.list_approaches`."""


def measure(cell: Cell, approach: str, model: str, rows: Rows, seed: int) -> dict[str, Any]:
    """Return what an approach says of test rows and of rows held out, and its CPU seconds."""
    shots = np.asarray(draw(cell, rows, seed).shots)
    texts = np.array([rows.split.X_train[i] for i in shots.tolist()], dtype=object)
    labels = np.asarray(rows.split.y_train)[shots]
    create = partial(make, approach, TASKS[cell.task], rows, model)

    def ask(learned: NDArray[np.intp], asked: Sequence[str]) -> Floats:
        fitted = create().fit(texts[learned].tolist(), labels[learned])
        times.append(time.process_time())
        return align(fitted.classes_, fitted.predict_proba(list(asked)), np.array(rows.labels))

    times = [time.process_time()]
    tested = ask(np.arange(len(shots)), rows.split.X_test[:N_TEST])
    times.append(time.process_time())
    held_out = np.empty((len(shots), len(rows.labels)))
    for learned, left in StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(
        texts, labels
    ):
        held_out[left] = ask(learned, texts[left].tolist())
    times.append(time.process_time())
    truth = np.asarray(rows.split.y_test[:N_TEST])
    return {
        "codes": np.searchsorted(rows.labels, labels).tolist(),
        "truth": np.searchsorted(rows.labels, truth).tolist(),
        "held_out": encode(held_out),
        "tested": encode(tested),
        "fit_cpu_s": times[1] - times[0],
        "cpu_s_per_text": (times[2] - times[1]) / len(truth),
        "cv_cpu_s": times[-1] - times[2],
    }


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of a task, few rows first."""
    rows = read_rows(task.name, options.data, options.limit_test)
    for size in SIZES:
        n_rows = rows.n_rows(size)
        for approach in APPROACHES:
            model = None if approach == "words" else options.model
            passes = N_FOLDS * 8 * n_rows * (approach == "tuning")
            seconds = passes * task.rates.row_pass + (N_TEST + n_rows) * task.rates.text
            expected = 0.1 if model is None else slowness(model) * seconds
            drawn = Cell("", task.name, None, n_rows, 1)
            yield Cell(
                f"{task.name}/{size}/{approach}",
                task.name,
                None,
                n_rows,
                options.seeds,
                expected_s=expected,
                measure=partial(measure, drawn, approach, options.model),
                model=model,
            )


# Tables


class Draws(NamedTuple):
    """The scores of all ways on a task with some rows a label."""

    task: str
    size: int
    scores: Scores

    def gain(self, way: str, names: Sequence[str]) -> float:
        """Return the mean accuracy over that of the approach that is best on the test rows."""
        means = {name: values.mean() for name, values in self.scores.accuracy.items()}
        return 100 * float(means[way] - max(means[name] for name in names))


def tabulate(found: Sequence[Draws], names: Sequence[str]) -> list[Table]:
    """Return a table of accuracies, and one of what each way gains and loses."""
    together = ", ".join(names)
    shown = (*names, "blend", "best log loss", "equal weights")
    first = Table(
        f"Balanced accuracy: {together}",
        ("task", "rows a label", "draws", *shown, "blend over best, points"),
        [_accuracies(one, shown, names) for one in found],
        (
            f"Means over draws, {N_TEST} test rows. All labels weigh the same, since those of CR "
            "are not equally frequent among these rows. The best approach of a task is the one "
            "with the highest mean on its test rows, which nobody knows beforehand.",
        ),
    )
    groups = {}
    for said, tasks in (("chosen on", CHOSEN_ON), ("confirmed on", CONFIRMED_ON)):
        if part := [one for one in found if one.task in tasks]:
            groups[f"{said} {', '.join(dict.fromkeys(one.task for one in part))}"] = part
    second = Table(
        f"Points over the best approach of each task: {together}",
        ("", *(f"{what}, {group}" for group in groups for what in ("mean", "least", "log loss"))),
        [
            (way, *(figure for part in groups.values() for figure in _gains(part, way, names)))
            for way in (*names, *WAYS)
        ],
        (
            "Mean and least over tasks and numbers of rows. Log loss is with the temperature of "
            "the rows held out.",
        ),
    )
    return [first, second]


def _accuracies(one: Draws, shown: Sequence[str], names: Sequence[str]) -> list[str]:
    accuracy = one.scores.accuracy
    means = [f"{accuracy[way].mean():.3f}" for way in shown]
    gain = f"{one.gain('blend', names):+.1f}"
    return [one.task, str(one.size), str(len(accuracy["blend"])), *means, gain]


def _gains(part: Sequence[Draws], way: str, names: Sequence[str]) -> tuple[str, str, str]:
    gains = [one.gain(way, names) for one in part]
    losses = [one.scores.log_loss[way].mean() for one in part]
    return f"{np.mean(gains):+.1f}", f"{min(gains):+.1f}", number(float(np.mean(losses)))


def tabulate_costs(found: dict[tuple[str, int], list[list[RawResult]]]) -> Table:
    """Return the CPU seconds of cross-validation over those of one fit, of each approach."""
    lines = []
    for (task, size), draws in found.items():
        for approach, results in zip(APPROACHES, zip(*draws, strict=True), strict=True):
            means = [
                np.mean([r[key] for r in results])
                for key in ("fit_cpu_s", "cv_cpu_s", "cpu_s_per_text")
            ]
            fit, cv, text = map(float, means)
            lines.append((task, str(size), approach, number(fit), number(cv), number(1000 * text)))
    header = ("task", "rows a label", "approach", "fit, CPU s", "4 folds, CPU s", "CPU ms a text")
    return Table("Cost", header, lines)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=NAME, seeds=3)
    options = parser.parse_args()
    prepare_process(options)
    names = available((*CHOSEN_ON, *CONFIRMED_ON), options.data)
    cells = [cell for name in names for cell in cells_of(TASKS[name], options)]
    if not options.table:
        run(select(cells, options.cells), options)
    if not options.plan:
        write(cells, options)


def write(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Write the page of the draws on which all approaches have been measured."""
    raw, found = RawResults(options.out), {}
    groups: dict[tuple[str, int], list[dict[int, RawResult]]] = {}
    for cell in cells:
        task, size, _ = cell.name.split("/")
        by_seed = {r["seed"]: r for r in newest(raw.read(cell.name), model_digest(options.model))}
        groups.setdefault((task, int(size)), []).append(by_seed)
    for key, approaches in groups.items():
        if seeds := sorted(set.intersection(*map(set, approaches))):
            found[key] = [[results[seed] for results in approaches] for seed in seeds]
    if not found:
        print("There are no results yet.")
        return
    parts = {}
    for part, names in (("listed", LISTED), ("with-features", APPROACHES)):
        some = {key: [results[: len(names)] for results in draws] for key, draws in found.items()}
        scores = [Draws(name, n, score(draws, names)) for (name, n), draws in some.items()]
        parts[part] = "\n".join(map(markdown, tabulate(scores, names)))
    parts["cost"] = markdown(tabulate_costs(found))
    last = [results[0]["environment"] for draws in found.values() for results in draws]
    parts["circumstances"] = circumstances(last_environment(last))
    text = "\n".join(section(part, content) for part, content in parts.items())
    save_page(text, page_name(NAME, options.model), options.results)
    print(text)


if __name__ == "__main__":
    main()
