"""Several labels for a text: a list of those that fit, or an answer of yes or no for each.

    python benchmarks/label_lists.py                    Gemma 3 270M, 16 shots, three draws
    python benchmarks/label_lists.py --model smollm2
    python benchmarks/label_lists.py --table            the table from the existing JSON

`MultiOutputPromptClassifier` lists labels unless ``verbalizer`` has words for 0 and 1, so both ways
are asked of the same rows. The tasks are the topics of ``examples/mailbox.jsonl``, and pairs of
texts from two tasks of ``tasks.py``, of which each has the labels of both: ``--data`` is their
folder. Measurements go into ``results/label_lists*.json``, and the table into ``label_lists*.md``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any, NamedTuple

import numpy as np
from cells import DATA
from measuring import RESULTS, Settings, environment, set_threads
from models import find_model
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.preprocessing import MultiLabelBinarizer
from tables import Table, load_record, number, page, save_page, save_record
from tasks import TASKS, available, natural_words, read_rows

from instructclf import MultiOutputPromptClassifier

MAILBOX = "mailbox"
PAIRED = ("emotion", "dbpedia14")
N_SHOTS, N_TRAIN, N_TEST, N_WORDS = 16, 32, 60, 14
LISTED, ASKED = "listed", "yes or no"
FIGURES = ("AUC", "average precision", "F1", "F1 without calibration")


class Texts(NamedTuple):
    """Texts and the labels of each."""

    texts: list[str]
    labels: list[list[str]]


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=arguments.draws, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    name = "label_lists" if arguments.model == "gemma3" else f"label_lists-{arguments.model}"
    if not arguments.table:
        path = find_model(arguments.model)
        tasks = [MAILBOX, *available(PAIRED, arguments.data)]
        runs = [
            run for task in tasks for draw in range(arguments.draws)
            for run in compare(path, task, draw, arguments.data)
        ]  # fmt: skip
        record = {"environment": environment(settings), "model": arguments.model, "runs": runs}
        save_record(record, name, settings.out)
    record = load_record(name, settings.out)
    text = page(record, [tabulate(record)])
    print(text, flush=True)
    save_page(text, name, settings.out)


def compare(path: str, task: str, draw: int, data: Path) -> list[dict[str, Any]]:
    """Ask for the labels of the same texts in both ways, after the same shots."""
    rows = _read_mailbox(draw) if task == MAILBOX else _read_pairs(task, draw, data)
    names = sorted({label for own in rows.labels[:N_TRAIN] for label in own})
    y = MultiLabelBinarizer(classes=names).fit_transform(
        [[label for label in own if label in names] for own in rows.labels]
    )
    runs = []
    for way in (LISTED, ASKED):
        words = None if way == LISTED else {name: {0: "no", 1: "yes"} for name in names}
        classifier = MultiOutputPromptClassifier(
            path, questions=names, verbalizer=words, n_shots=N_SHOTS, random_state=draw
        ).fit(rows.texts[:N_TRAIN], y[:N_TRAIN])
        started = process_time()
        scores = classifier.label_scores(rows.texts[N_TRAIN:])
        seconds = (process_time() - started) / len(y[N_TRAIN:])
        figures = _measure(scores, y[N_TRAIN:])
        runs.append({"task": task, "draw": draw, "way": way, "cpu_s": seconds} | figures)
        print(runs[-1], flush=True)
    return runs


def _measure(scores: list[Any], y: np.ndarray) -> dict[str, float]:
    """Return means over the labels that some of the texts have."""
    found = [(own, column) for own, column in zip(scores, y.T, strict=True) if column.any()]
    return {
        "AUC": mean(roc_auc_score(c, _odds(own.log_probabilities)) for own, c in found),
        "average precision": mean(
            average_precision_score(c, _odds(own.log_probabilities)) for own, c in found
        ),
        "F1": mean(
            f1_score(c, _odds(own.log_probabilities) > 0, zero_division=0) for own, c in found
        ),
        "F1 without calibration": mean(
            f1_score(c, _odds(own.log_likelihood) > 0, zero_division=0) for own, c in found
        ),
    }


def _odds(scores: np.ndarray) -> np.ndarray:
    return scores[:, 1] - scores[:, 0]


def _read_mailbox(draw: int) -> Texts:
    file = Path(__file__).parents[1] / "examples" / "mailbox.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    chosen = [rows[i] for i in np.random.RandomState(draw).permutation(len(rows)).tolist()]
    return Texts([row["text"] for row in chosen], [row["topics"] for row in chosen])


def _read_pairs(task: str, draw: int, data: Path) -> Texts:
    """Return texts of one or two beginnings of texts, with the labels of both."""
    split = read_rows(TASKS[task].name, data).split
    rng = np.random.RandomState(draw)
    order = iter(rng.permutation(len(split.X_train)).tolist())
    texts, labels = [], []
    for n_texts in rng.randint(1, 3, size=N_TRAIN + N_TEST).tolist():
        own = [next(order) for _ in range(n_texts)]
        texts.append(" ".join(" ".join(split.X_train[i].split()[:N_WORDS]) for i in own))
        labels.append(sorted({natural_words(split.y_train[i]) for i in own}))
    return Texts(texts, labels)


def tabulate(record: dict[str, Any]) -> Table:
    """Return the means of both ways for each task, and in how many draws the list is better."""
    lines = []
    runs = record["runs"]
    for task in dict.fromkeys(run["task"] for run in runs):
        own = {
            way: [r for r in runs if (r["task"], r["way"]) == (task, way)]
            for way in (LISTED, ASKED)
        }
        pairs = list(zip(own[LISTED], own[ASKED], strict=True))
        for figure in FIGURES:
            better = sum(one[figure] > other[figure] for one, other in pairs)
            means = [f"{mean(r[figure] for r in own[way]):.3f}" for way in (LISTED, ASKED)]
            lines.append([task, figure, *means, f"{better} of {len(pairs)}"])
        times = [number(1000 * mean(r["cpu_s"] for r in own[way])) for way in (LISTED, ASKED)]
        lines.append([task, "a text, CPU ms", *times, ""])
    notes = [
        f"Model: {record['model']}, {N_SHOTS} shots of {N_TRAIN} rows. Means over labels and draws."
    ]
    header = ["labels of", "figure", LISTED, ASKED, "draws in which the list is better"]
    return Table("A list of labels, or yes or no for each", header, lines, notes)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gemma3")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the table again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
