"""lm-evaluation-harness' scoring of the same requests: ``HFLM.loglikelihood``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from numpy.typing import NDArray

from peers.forwards import Task


def make(task: Task, batch_size: int | str, *, max_batch_size: int = 64) -> Any:
    """Return the harness' model around the loaded one.

    Its cache of equal contexts is on, so labels that differ only in their last token share a pass.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(
        pretrained=task.model,
        tokenizer=task.tokenizer,
        backend="causal",
        batch_size=batch_size,
        max_batch_size=max_batch_size,
        logits_cache=True,
        device="cpu",
    )


def score(harness: Any, task: Task, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the harness' log-likelihoods of each prompt and label."""
    requests = [
        Instance("loglikelihood", doc={}, arguments=(task.prompt_of(text), words), idx=0)
        for text in texts
        for words in task.words
    ]
    answers = harness.loglikelihood(requests, disable_tqdm=True)
    return np.array([value for value, _ in answers]).reshape(len(texts), len(task.words))
