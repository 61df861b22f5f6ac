"""skorch's ``FewShotClassifier`` with the prompts of instructclf."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch.llm import FewShotClassifier

from peers.forwards import Task

_TEXT = "Here stands the text."


def make(task: Task, *, keeps_start: bool = False) -> Any:
    """Return a fitted ``FewShotClassifier`` that reads the same prompts with the same weights.

    The shots stand in the prompt string, so that it is byte for byte that of instructclf. Two
    settings are needed for equal scores: probabilities that are not normalised
    (``probas_sum_to_1=False``), and label ids without the start token that this tokenizer puts
    before every string, which skorch takes for the first token of each label. With ``keeps_start``
    that token is scored.
    """
    classifier = FewShotClassifier(
        model=task.model,
        tokenizer=task.tokenizer,
        prompt=_as_format_string(task),
        probas_sum_to_1=False,
        max_samples=1,  # the shots are in the prompt already
        use_caching=True,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the prompt has no {labels} and no {examples}
        classifier.fit(["A text."] * len(task.words), list(task.words))
    if list(classifier.classes_) != list(task.words):
        msg = "The labels must be sorted, as skorch sorts them."
        raise ValueError(msg)
    if not keeps_start:
        start = task.tokenizer.bos_token_id
        classifier.label_ids_ = [
            ids[1:] if ids[0] == start else ids for ids in classifier.label_ids_
        ]
    return classifier


def score(classifier: Any, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return log-probabilities, after clearing skorch's cache of earlier texts."""
    classifier.clear_model_cache()
    return np.log(classifier.predict_proba(list(texts)))


def _as_format_string(task: Task) -> str:
    before, text, after = task.prompt_of(_TEXT).rpartition(_TEXT)
    if not text:
        msg = "The prompt does not contain the text."
        raise ValueError(msg)
    return f"{_escape(before)}{{text}}{_escape(after)}"


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
