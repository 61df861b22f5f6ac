"""Measure a model on what it was not trained on: reviews, and texts of many meanings, zero-shot.

    python tools/bundled_model/check.py --work WORK --model FOLDER --rows FILE...

``--rows`` names files of ``negative`` and ``positive`` texts, such as those of ``heldout.py``.
Scores are those of the package. Texts of many meanings are the share of prompts answered rightly,
with two to six labels each, drawn as in training from the texts that ``units.py`` keeps out.
"""

from __future__ import annotations

import argparse
import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from concepts import CONCEPT, FEELING, GENRE, QUESTION, SUBJECT
from episodes import SIGNS, Composer
from sklearn.metrics import roc_auc_score
from sources import read_rows
from transformers import AutoTokenizer

from instructclf import PromptClassifier

if TYPE_CHECKING:
    from units import Units

DEFINITIONS = {
    "negative": "The reviewer is dissatisfied.",
    "positive": "The reviewer is satisfied.",
}
LENGTH = 400
"""The tokens of a prompt decide how many labels it may have."""


def check_rows(model: str, path: Path, n_rows: int) -> str:
    """Return accuracy and area under the ROC curve on the rows of a file, drawn with a seed."""
    rows = list(read_rows(path))
    rows = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))[:n_rows]]
    truth = np.array([row["label"] for row in rows])
    asked = PromptClassifier(model, n_shots=0, calibration=None, label_definitions=DEFINITIONS)
    asked.fit(["a", "b"], list(DEFINITIONS))
    chances = asked.predict_proba([row["text"] for row in rows])
    right = np.mean(asked.classes_[chances.argmax(axis=1)] == truth)
    area = roc_auc_score(truth == asked.classes_[1], chances[:, 1])
    return f"{len(rows)} rows, accuracy {right:.3f}, area under the curve {area:.3f}"


def check_kind(model: str, units: Units, composer: Composer, kind: str, n_tasks: int) -> str:
    """Return the share of texts of a kind answered rightly, for names and for signs as labels."""
    rng = np.random.default_rng(2)
    right = {"names": [], "signs": []}
    guessed = {"names": [], "signs": []}
    while min(map(len, right.values())) < n_tasks:
        task = composer.meanings(kind, rng, LENGTH)
        signs = any(set(task.words) <= set(row) for row in SIGNS)
        which = "signs" if signs else "names"
        if len(right[which]) >= n_tasks or (signs and not task.definitions):
            continue
        if len(set(task.words)) < len(task.words):
            continue
        asked = PromptClassifier(
            model,
            n_shots=0,
            calibration=None,
            instruction=task.task,
            label_definitions=task.definitions
            and dict(zip(task.words, task.definitions, strict=True)),
        )
        texts = [
            composer.tokenizer.decode(units.text(int(rng.choice(pool)))) for pool in task.pools
        ]
        asked.fit(texts, task.words)
        right[which].append(np.mean(asked.predict(texts) == np.array(task.words)))
        guessed[which].append(1 / len(texts))
    return ", ".join(
        f"{which} {np.mean(found):.2f} (guessing {np.mean(guessed[which]):.2f})"
        for which, found in right.items()
    )


def of_held(units: Units) -> Units:
    """Return the texts that are kept out, without meanings that have none."""
    filled = {
        kind: [i for i, p in enumerate(pools) if len(p)] for kind, pools in units.held.items()
    }
    return replace(
        units,
        pools={kind: [units.held[kind][i] for i in kept] for kind, kept in filled.items()},
        entries={kind: [units.entries[kind][i] for i in kept] for kind, kept in filled.items()},
    )


def main() -> None:
    """Measure a model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=Path, nargs="*", default=[])
    parser.add_argument("--n-rows", type=int, default=500)
    parser.add_argument("--n-tasks", type=int, default=60, help="of each kind of label")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for path in options.rows:
        print(path, check_rows(options.model, path, options.n_rows), flush=True)
    with (options.work / "units.pkl").open("rb") as file:
        units: Units = pickle.load(file)
    tokenizer = AutoTokenizer.from_pretrained(options.work / "tokenizer")
    composer = Composer(of_held(units), tokenizer)
    for kind in (FEELING, SUBJECT, GENRE, QUESTION, CONCEPT):
        if kind in composer.kinds:
            found = check_kind(options.model, units, composer, kind, options.n_tasks)
            print(kind, found, flush=True)


if __name__ == "__main__":
    main()
