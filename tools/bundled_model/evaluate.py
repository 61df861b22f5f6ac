"""Measure a model folder: zero-shot with and without definitions, and sixteen shots."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sources import POLARITY, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructclf.prompts import get_template, write_instruction

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)
LABELS = ("negative", "positive")
DEFINITIONS = ("The reviewer is dissatisfied.", "The reviewer is satisfied.")
Pair = tuple[str, str]


class Scorer:
    """Scores labels by the log-probability of their tokens after a prompt.

    Parameters
    ----------
    folder : pathlib.Path
        The model.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.template = get_template("alpaca")

    @torch.inference_mode()
    def logits(self, prompts: Sequence[str], labels: Sequence[str], size: int = 32) -> np.ndarray:
        """Return the log-probability of each label after each prompt.

        Parameters
        ----------
        prompts : sequence of str
            The prompts.
        labels : sequence of str
            The labels.
        size : int, default=32
            Sequences a batch.

        Returns
        -------
        numpy.ndarray
            One row a prompt, one column a label.
        """
        answers = [self.tokenizer(x, add_special_tokens=False)["input_ids"] for x in labels]
        starts = self.tokenizer(list(prompts))["input_ids"]
        jobs = [(i, j) for i in range(len(starts)) for j in range(len(answers))]
        if all(len(answer) == 1 for answer in answers):
            jobs = [(i, -1) for i in range(len(starts))]
        jobs.sort(key=lambda job: len(starts[job[0]]))
        found = np.zeros((len(starts), len(answers)))
        for first in range(0, len(jobs), size):
            self._fill(found, jobs[first : first + size], starts, answers)
        return found

    def _fill(self, found: np.ndarray, jobs: list, starts: list, answers: list) -> None:
        rows = [starts[i] + (answers[j] if j >= 0 else []) for i, j in jobs]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        states = self.model.model(input_ids=ids).last_hidden_state
        for row, (i, j) in enumerate(jobs):
            at = len(starts[i]) - 1
            tail = states[row, at : len(rows[row]) - 1] if j >= 0 else states[row, at : at + 1]
            scores = self.model.lm_head(tail).log_softmax(-1)
            if j < 0:
                found[i] = scores[0, [answer[0] for answer in answers]].numpy()
            else:
                found[i, j] = float(scores[range(len(answers[j])), answers[j]].sum())

    def predict(
        self,
        texts: Sequence[str],
        labels: Sequence[str] = LABELS,
        definitions: Sequence[str] | None = None,
        shots: Sequence[Pair] = (),
    ) -> list[str]:
        """Return the likeliest label of each text."""
        stated = write_instruction(None, labels, definitions)
        prompts = [self.template.render(stated, text, shots) for text in texts]
        size = 4 if len(shots) > 4 else 32
        return [labels[i] for i in self.logits(prompts, labels, size).argmax(1)]


def read_polar_rows(path: Path, limit: int) -> list[Pair]:
    """Read reviews as texts and ``negative`` or ``positive``, the first of a seeded shuffle."""
    rows = [(row["text"], row["label"]) for row in read_rows(path)]
    rows = [(text, LABELS[POLARITY[str(y)]]) for text, y in rows if str(y) in POLARITY]
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[i] for i in order[:limit]]


def draw_shots(rows: list[Pair], shots: int, seed: int) -> list[Pair]:
    """Draw as many examples of each class, shuffled."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))
    found: list[Pair] = []
    for label in LABELS:
        found += [rows[i] for i in order if rows[i][1] == label][: shots // len(LABELS)]
    return [found[i] for i in rng.permutation(len(found))]


def accuracy(guesses: Sequence[str], rows: list[Pair]) -> float:
    """Return the share of right guesses."""
    return float(np.mean([g == y for g, (_, y) in zip(guesses, rows, strict=True)]))


def evaluate(scorer: Scorer, rows: list[Pair], pool: list[Pair], draws: int) -> dict[str, object]:
    """Measure every setting.

    Parameters
    ----------
    scorer : Scorer
        The model.
    rows, pool : list of (str, str)
        Test rows, and rows to draw examples from.
    draws : int
        How many draws of sixteen examples.

    Returns
    -------
    dict
        Accuracies.
    """
    texts = [text for text, _ in rows]
    found: dict[str, object] = {"rows": len(rows)}
    found["zero_shot"] = accuracy(scorer.predict(texts), rows)
    found["zero_shot_defined"] = accuracy(scorer.predict(texts, LABELS, DEFINITIONS), rows)
    if pool:
        found["sixteen_shots_defined"] = [
            accuracy(scorer.predict(texts, LABELS, DEFINITIONS, draw_shots(pool, 16, seed)), rows)
            for seed in range(draws)
        ]
    return found


def main() -> None:
    """Write the accuracies of a model on a file, as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a file, or a folder with test")
    parser.add_argument("--pool", type=Path, help="a file to draw the sixteen examples from")
    parser.add_argument("--limit", type=int, default=1000)
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
    found = evaluate(Scorer(options.model), rows, examples, options.draws)
    LOG.info("%s", json.dumps({"data": data.name, **found}))


if __name__ == "__main__":
    main()
