"""Finished model → its zero-shot accuracy on texts that it was not trained on."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score
from transformers import AutoTokenizer

from instructclf import PromptClassifier
from tools.bundled_model.concepts import CONCEPT, FEELING, GENRE, QUESTION, SUBJECT
from tools.bundled_model.episodes import SIGNS, Composer
from tools.bundled_model.sources import PRODUCTS, read_polar, read_rows, read_texts, word_runs
from tools.bundled_model.units import REVIEWS, cut_window, split_held_out

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tools.bundled_model.units import Units

DEFINITIONS = {
    "negative": "The reviewer is dissatisfied.",
    "positive": "The reviewer is satisfied.",
}
LENGTH = 400
"""The tokens of a prompt, which limit its number of labels."""
WORDS = 90
"""Held-out reviews are cut to about so many words."""


def check(work: Path, model: str, files: list[Path], n_rows: int, n_tasks: int) -> None:
    """Print the accuracy on files of labelled reviews, and on texts of many meanings."""
    for path in files:
        print(path, check_rows(model, path, n_rows), flush=True)
    with (work / "units.pkl").open("rb") as file:
        units: Units = pickle.load(file)
    composer = Composer(of_held(units), AutoTokenizer.from_pretrained(work / "tokenizer"))
    for kind in (FEELING, SUBJECT, GENRE, QUESTION, CONCEPT):
        if kind in composer.kinds:
            print(kind, check_kind(model, composer, kind, n_tasks), flush=True)


def check_rows(model: str, path: Path, n_rows: int) -> str:
    """Return accuracy and area under the ROC curve on rows of a file, drawn with a seed."""
    rows = list(read_rows(path))
    rows = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))[:n_rows]]
    truth = np.array([row["label"] for row in rows])
    classifier = PromptClassifier(
        model, n_shots=0, calibration=None, label_definitions=DEFINITIONS
    ).fit(["a", "b"], list(DEFINITIONS))
    probabilities = classifier.predict_proba([row["text"] for row in rows])
    right = np.mean(classifier.classes_[probabilities.argmax(axis=1)] == truth)
    area = roc_auc_score(truth == classifier.classes_[1], probabilities[:, 1])
    return f"{len(rows)} rows, accuracy {right:.3f}, area under the curve {area:.3f}"


def check_kind(model: str, composer: Composer, kind: str, n_tasks: int) -> str:
    """Return the share of texts of a kind that get the right label, for names and for signs."""
    rng = np.random.default_rng(2)
    right: dict[str, list[Any]] = {"names": [], "signs": []}
    guessed: dict[str, list[float]] = {"names": [], "signs": []}
    while min(map(len, right.values())) < n_tasks:
        task = composer.meanings(kind, rng, LENGTH)
        signs = any(set(task.words) <= set(row) for row in SIGNS)
        which = "signs" if signs else "names"
        if len(right[which]) >= n_tasks or (signs and not task.definitions):
            continue
        if len(set(task.words)) < len(task.words):
            continue
        definitions = task.definitions and dict(zip(task.words, task.definitions, strict=True))
        classifier = PromptClassifier(
            model,
            n_shots=0,
            calibration=None,
            instruction=task.task,
            label_definitions=definitions,
        )
        chosen = [int(rng.choice(pool)) for pool in task.pools]
        texts = [composer.tokenizer.decode(composer.units.text(i)) for i in chosen]
        classifier.fit(texts, task.words)
        right[which].append(np.mean(classifier.predict(texts) == np.array(task.words)))
        guessed[which].append(1 / len(texts))
    return ", ".join(
        f"{which} {np.mean(shares):.2f} (guessing {np.mean(guessed[which]):.2f})"
        for which, shares in right.items()
    )


def of_held(units: Units) -> Units:
    """Return the units with the texts that are kept out, and only the meanings that have some."""
    filled = {
        kind: [i for i, pool in enumerate(pools) if len(pool)] for kind, pools in units.held.items()
    }
    return replace(
        units,
        pools={kind: [units.held[kind][i] for i in kept] for kind, kept in filled.items()},
        entries={kind: [units.entries[kind][i] for i in kept] for kind, kept in filled.items()},
    )


# Files to check a model on


def write_held_out(data: Path, out: Path) -> None:
    """Write the reviews that are held out of training, one file for each set."""
    for name in REVIEWS:
        rng = np.random.default_rng(11)
        rows = split_held_out(read_polar(data, name))[1]
        _write(
            out / f"{name}.jsonl.gz",
            (
                {"text": cut_window(text, WORDS, rng), "label": list(DEFINITIONS)[label]}
                for text, label in rows
            ),
        )


def write_apart(data: Path, rows: Path, out: Path) -> None:
    """Write the rows of a file that share no run of words with an unlabelled product review.

    Training rows of a task may come from the same source as the product reviews.
    """
    runs = set().union(*map(word_runs, read_texts(data)[PRODUCTS]))
    kept = (row for row in read_rows(rows) if runs.isdisjoint(word_runs(row["text"])))
    _write(out / "apart.jsonl.gz", kept)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
