"""Measure a model folder with the package's own classifiers: zero-shot, sixteen shots, tuned."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sources import POLARITY, read_rows

from instructclf import InstructionTunedClassifier, PromptClassifier

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

LOG = logging.getLogger(__name__)
LABELS = ("negative", "positive")
DEFINITIONS = {
    "negative": "The reviewer is dissatisfied.",
    "positive": "The reviewer is satisfied.",
}
SHOTS = 16
Pair = tuple[str, str]


def read_polar_rows(path: Path, limit: int) -> list[Pair]:
    """Read reviews as texts and ``negative`` or ``positive``, the first of a seeded shuffle.

    Parameters
    ----------
    path : pathlib.Path
        JSON lines with ``text`` and ``label``.
    limit : int
        The most rows.

    Returns
    -------
    list of (str, str)
        The rows.
    """
    rows = [(row["text"], str(row["label"])) for row in read_rows(path)]
    rows = [(text, LABELS[POLARITY[label]]) for text, label in rows if label in POLARITY]
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[i] for i in order[:limit]]


def draw_shots(rows: list[Pair], seed: int) -> list[Pair]:
    """Draw as many examples of each class, shuffled."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))
    found: list[Pair] = []
    for label in LABELS:
        found += [rows[i] for i in order if rows[i][1] == label][: SHOTS // len(LABELS)]
    return [found[i] for i in rng.permutation(len(found))]


def measure(classifier: ClassifierMixin, shots: list[Pair], rows: list[Pair]) -> float:
    """Fit a classifier on a few rows and return the share of right predictions on others."""
    classifier.fit([text for text, _ in shots], [label for _, label in shots])
    guesses = classifier.predict([text for text, _ in rows])
    return float(np.mean([g == y for g, (_, y) in zip(guesses, rows, strict=True)]))


def evaluate(folder: Path, rows: list[Pair], pool: list[Pair], draws: int) -> dict[str, object]:
    """Measure every setting.

    Parameters
    ----------
    folder : pathlib.Path
        The model.
    rows, pool : list of (str, str)
        Test rows, and rows to draw examples from; without a pool, zero-shot only.
    draws : int
        How many draws of sixteen examples.

    Returns
    -------
    dict
        Accuracies.
    """
    model, few = str(folder), [("", label) for label in LABELS]
    plain = PromptClassifier(model, n_shots=0, calibration=None)
    defined = PromptClassifier(model, n_shots=0, calibration=None, label_definitions=DEFINITIONS)
    found: dict[str, object] = {"rows": len(rows)}
    found["zero_shot"] = measure(plain, few, rows)
    found["zero_shot_defined"] = measure(defined, few, rows)
    for seed in range(draws if pool else 0):
        shots = draw_shots(pool, seed)
        for calibration in (None, "auto"):
            prompted = PromptClassifier(
                model,
                n_shots=SHOTS,
                calibration=calibration,
                label_definitions=DEFINITIONS,
                random_state=seed,
            )
            name = f"{SHOTS}_shots_defined_{calibration or 'plain'}_{seed}"
            found[name] = measure(prompted, shots, rows)
            LOG.info("%s: %.4f", name, found[name])
        tuned = InstructionTunedClassifier(model, label_definitions=DEFINITIONS, random_state=seed)
        found[f"tuned_defined_{seed}"] = measure(tuned, shots, rows)
    return found


def main() -> None:
    """Write the accuracies of a model on a file, as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a file, or a folder with test")
    parser.add_argument("--pool", type=Path, help="a file to draw the sixteen examples from")
    parser.add_argument("--limit", type=int, default=4000)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(options.threads)
    data, pool = options.data, options.pool
    if data.is_dir():
        data, pool = data / "test.jsonl.gz", pool or data / "train.jsonl.gz"
    examples = read_polar_rows(pool, 2000) if pool else []
    rows = read_polar_rows(data, options.limit)
    found = evaluate(options.model, rows, examples, options.draws)
    LOG.info("%s", json.dumps({"data": data.name, **found}))


if __name__ == "__main__":
    main()
