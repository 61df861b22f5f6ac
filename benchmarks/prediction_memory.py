"""Peak memory of each variant of a prediction, each in a new process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import models
import texts as data
import torch
from measuring import Settings, peak_memory, run_fresh_each, set_threads
from peers.forwards import Prefix
from variants import (
    AUTO_BATCH,
    COPIED,
    EXPANDED,
    OURS,
    SINGLE,
    SINGLE_KEPT,
    SKORCH,
    Case,
    fit_ours,
    full_prompt,
    prefix_sharing,
)

EQUAL_BATCH = 16
"""Texts at a time for which the memory of prefix caches is measured too."""


def measure_memory(
    name: str, case: Case, chosen: dict[str, Any], settings: Settings
) -> dict[str, float]:
    """Return MiB above the loaded model for each variant, each in a new process."""
    texts: dict[str, int] = dict.fromkeys((SINGLE, SINGLE_KEPT, SKORCH), 1)
    for variant, setting in chosen.items():
        batch = setting[0] if isinstance(setting, list | tuple) else setting
        texts[variant] = batch if isinstance(batch, int) else AUTO_BATCH
    texts[OURS] = len(case.texts)
    chosen = dict(chosen)
    for variant in (COPIED, EXPANDED):
        chosen[at_equal_batch(variant)] = (EQUAL_BATCH, True)
        texts[at_equal_batch(variant)] = EQUAL_BATCH
    if settings.toy:
        texts = {variant: texts[variant] for variant in (OURS, COPIED)}
    return run_fresh_each(
        "prediction_memory:memory",
        {
            variant: {
                "variant": variant,
                "setting": chosen.get(variant, 1),
                "model": {"name": name, "toy": settings.toy, "seed": settings.seed},
                "threads": settings.threads,
                "labels": case.labels,
                "shots": [case.shots.texts, case.shots.labels],
                "texts": case.texts[:n_texts],
                "frame": [case.before, case.after],
            }
            for variant, n_texts in texts.items()
        },
    )


def at_equal_batch(variant: str) -> str:
    return f"{variant}, {EQUAL_BATCH} texts"


def memory(
    *,
    variant: str,
    setting: Any,
    model: dict[str, Any],
    threads: int,
    labels: Sequence[str],
    shots: Sequence[list[str]],
    texts: list[str],
    frame: Sequence[str],
) -> float:
    """Return the peak of resident memory above the loaded model, in MiB."""
    set_threads(threads)
    pair = models.load(**model)
    case = Case(pair, tuple(labels), data.Rows(*shots), texts, *frame)
    with torch.inference_mode():
        pair[0](input_ids=torch.arange(16)[None], use_cache=False)
    if variant == OURS:
        with peak_memory() as used:
            fit_ours(pair, case.shots).label_log_likelihood(texts)
        return used.extra
    if variant.startswith((COPIED, EXPANDED)):
        variant = COPIED if variant.startswith(COPIED) else EXPANDED
        task = case.task
        with peak_memory() as used:
            prefix_sharing(task, variant, setting, Prefix(task, [*texts, "A text."]))(texts)
        return used.extra
    score = full_prompt(case.task, variant, setting)
    with peak_memory() as used:
        score(texts)
    return used.extra
