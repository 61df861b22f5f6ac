"""How fast instruction tuning and prompting predict, with the shared prefix computed once and not.

Without it, whole prompts go through the model in padded batches, logits at the labels only: what
one writes by hand (``peers/forwards.py``), on the same weights, prompts and adapter, at the batch
size that is fastest. The scores are held against ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from approaches import prompting, tuning
from cells import Cell, draw
from measuring import timed
from peers import forwards
from tasks import Rows, Task

from instructclf.engine.models.registry import get_base_model

TUNED, PROMPTED = "tuned", "prompted"
WHOLE = "whole prompts"
_WHOLE_SHARE = 5
"""Whole prompts are timed on a fifth of the texts: their seconds a text do not depend on it."""
_BATCHES = (1, 2, 4)
Score = Callable[[Sequence[str]], Any]


def measure_speed(task: Task, rows: Rows, seed: int, *, model: str, n_texts: int) -> dict[str, Any]:
    """Return CPU seconds of each fit and of each text, on sixteen rows of this seed."""
    drawn = draw(Cell("", task.name, None, 16, 1), rows, seed)
    texts = [rows.split.X_train[i] for i in drawn.rows]
    labels = rows.split.y_train[drawn.rows]
    given = {"calibration": None, "random_state": seed}  # calibrating would score more rows
    fitted, timings = {}, {}
    classifiers = {
        TUNED: tuning(task, rows, model, **given),
        PROMPTED: prompting(task, rows, model, n_shots=None, **given),
    }
    for name, classifier in classifiers.items():
        fitted[name], timing = timed(lambda c=classifier: c.fit(texts, labels))
        timings[name] = {"fit_cpu_s": timing.cpu_s}
    test = rows.split.X_test[:n_texts]
    scorers = {name: _whole(fitted[name], model, test[:1]) for name in fitted}
    found = {
        **{name: (fitted[name].label_log_likelihood, test) for name in fitted},
        **{
            f"{name}, {WHOLE}": (score, test[: max(2, n_texts // _WHOLE_SHARE)])
            for name, score in scorers.items()
        },
    }
    names = list(found)
    shift = seed % len(names)  # a slow minute is not always the same one's
    scores = {}
    for name in names[shift:] + names[:shift]:
        score, own = found[name]
        score(own[:2])  # tests of shortcuts, and the prefix
        scores[name], timing = timed(lambda s=score, o=own: s(o))
        timings.setdefault(name, {})["cpu_s_per_text"] = timing.cpu_s / len(own)
    for name in fitted:
        whole = scores[f"{name}, {WHOLE}"]
        gap = float(np.abs(whole - scores[name][: len(whole)]).max())
        timings[f"{name}, {WHOLE}"]["largest_difference"] = gap
    return {"timings": timings, "n_texts": len(test)}


def _whole(classifier: Any, model: str, texts: Sequence[str]) -> Score:
    """Return what scores whole prompts of a fitted classifier, at the best batch size."""
    base = get_base_model(model)
    view = classifier._get_scorer().model  # noqa: SLF001  (with the adapter, if there is one)
    words = tuple(w if isinstance(w, str) else w[0] for w in classifier.label_words_)
    task = forwards.Task(view, base.tokenizer, words, classifier.get_prompt)

    def seconds(batch: int) -> float:
        given = [*texts] * batch
        timing = timed(lambda: forwards.padded(task, given, batch=batch))[1]
        return timing.cpu_s / len(given)

    forwards.padded(task, list(texts), batch=1)
    best = min(_BATCHES, key=seconds)
    return lambda own: forwards.padded(task, own, batch=best)
