"""The variants of a prediction, ours and its peers, and the prompts that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import texts as data
from numpy.typing import NDArray
from peers import forwards
from peers.forwards import Prefix, Task

from instructclf import PromptClassifier

OURS = "instructclf"
SINGLE = "a forward per (text, label)"
SINGLE_KEPT = "the same, logits at the label only"
SKORCH = "skorch FewShotClassifier"
HARNESS = "lm-evaluation-harness"
PADDED = "full prompts, padded batch"
COPIED = "prefix cache, copied"
EXPANDED = "prefix cache, expanded"

CASES = {"two": data.TWO_LABELS, "six": data.SIX_LABELS}
AUTO_BATCH = 2
"""The most that the harness' automatic batch size may try, which bounds its memory."""

Scorer = Callable[[Sequence[str]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Case:
    """One set of labels, with shots, texts, and the prompt that all variants share."""

    pair: tuple[Any, Any]
    labels: tuple[str, ...]
    shots: data.Rows
    texts: list[str]
    before: str
    after: str

    @classmethod
    def make(
        cls, case: str, pair: tuple[Any, Any], *, n_shots: int, n_texts: int, seed: int
    ) -> Case:
        labels = tuple(sorted(CASES[case]))
        n_shots = max(n_shots, len(labels))
        tokenizer = pair[1]
        shots = data.paired_reviews(tokenizer, data.SHOT, n_shots, labels, split="train", seed=seed)
        rows = data.paired_reviews(tokenizer, data.TEXT, n_texts, labels, seed=seed)
        classifier = fit_ours(pair, shots)
        before, _, after = classifier.get_prompt("TEXT").rpartition("TEXT")
        made = cls(pair, labels, shots, rows.texts, before, after)
        for text in rows.texts:  # peers must read the same prompts as our classifier
            if made.prompt_of(text) != classifier.get_prompt(text):
                msg = f"The prompt of {text!r} is not the text between the same beginning and end."
                raise ValueError(msg)
        return made

    def prompt_of(self, text: str) -> str:
        return f"{self.before}{text}{self.after}"

    @property
    def task(self) -> Task:
        return Task(*self.pair, self.labels, self.prompt_of)


def fit_ours(pair: tuple[Any, Any], shots: data.Rows) -> PromptClassifier:
    classifier = PromptClassifier(pair, n_shots=len(shots.texts), calibration=None, random_state=0)
    return classifier.fit(shots.texts, shots.labels)


def full_prompt(task: Task, variant: str, batch: int | str) -> Scorer:
    """Return a peer that sends full prompts."""
    if variant == SKORCH:
        from peers import skorch_few_shot  # noqa: PLC0415  (as for the harness)

        classifier = skorch_few_shot.make(task)
        return lambda texts: skorch_few_shot.score(classifier, texts)
    if variant == HARNESS:
        from peers import harness  # noqa: PLC0415  (takes seconds, which other variants do not need)

        model = harness.make(task, batch, max_batch_size=AUTO_BATCH)
        return lambda texts: harness.score(model, task, texts)
    if variant == PADDED:
        return lambda texts: forwards.padded(task, texts, batch=int(batch))
    return lambda texts: forwards.one_by_one(task, texts, keep=variant == SINGLE_KEPT)


def prefix_sharing(task: Task, variant: str, setting: Sequence[Any], prefix: Prefix) -> Scorer:
    """Return a peer that computes the prefix once."""
    batch, grouped = setting
    how = "copied" if variant == COPIED else "expanded"
    return lambda texts: forwards.prefix_cache(
        task, texts, batch=batch, how=how, prefix=prefix, grouped=grouped
    )
