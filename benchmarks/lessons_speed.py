"""How fast instruction tuning and prompting predict, with a shared prefix and without it.

Without it, full prompts go through the model in padded batches, with logits at the labels only
(``peers/forwards.py``): the same weights, prompts and adapter, at the fastest batch size. The
scores are compared with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cells import Cell, draw
from measuring import timed
from peers import forwards
from tasks import Rows

from instructclf.engine.models.views import shared_view

TUNED, PROMPTED = "tuned", "prompted"
FULL = "full prompts"
_FULL_SHARE = 5
"""Full prompts are timed on a fifth of the texts: their seconds per text do not depend on it."""
_BATCHES = (1, 2, 4)
Make = Callable[..., Any]
Score = Callable[[Sequence[str]], Any]


def measure_speed(
    tuned: Make, prompted: Make, rows: Rows, seed: int, *, n_texts: int
) -> dict[str, Any]:
    """Return CPU seconds of each fit and of each text, on sixteen rows of this seed.

    Two functions make the classifiers, which take other parameters by name.
    """
    drawn = draw(Cell("", "", None, 16, 1), rows, seed)
    texts = [rows.split.X_train[i] for i in drawn.rows]
    labels = rows.split.y_train[drawn.rows]
    options = {"calibration": None, "random_state": seed}  # calibrating would score more rows
    fitted, timings = {}, {}
    classifiers = {
        TUNED: tuned(**options),
        PROMPTED: prompted(**options),
    }
    for name, classifier in classifiers.items():
        fitted[name], timing = timed(lambda c=classifier: c.fit(texts, labels))
        timings[name] = {"fit_cpu_s": timing.cpu_s}
    test = rows.split.X_test[:n_texts]
    scorers: dict[str, tuple[Score, Sequence[str]]] = {
        name: (classifier.label_log_likelihood, test) for name, classifier in fitted.items()
    }
    for name, classifier in fitted.items():
        score = _full_prompts(classifier, test[:1])
        scorers[f"{name}, {FULL}"] = (score, test[: max(2, n_texts // _FULL_SHARE)])
    names = list(scorers)
    shift = seed % len(names)  # so that a slow minute does not always hit the same one
    scores = {}
    for name in names[shift:] + names[:shift]:
        score, some = scorers[name]
        score(some[:2])  # computes the prefix, and checks that shortcuts are exact
        scores[name], timing = timed(lambda s=score, t=some: s(t))
        timings.setdefault(name, {})["cpu_s_per_text"] = timing.cpu_s / len(some)
    for name in fitted:
        full = scores[f"{name}, {FULL}"]
        gap = float(np.abs(full - scores[name][: len(full)]).max())
        timings[f"{name}, {FULL}"]["largest_difference"] = gap
    return {"timings": timings, "n_texts": len(test)}


def _full_prompts(classifier: Any, texts: Sequence[str]) -> Score:
    """Return what scores full prompts of a fitted classifier, at the best batch size."""
    base = classifier.open_model().base
    adapter = classifier.labeller_.adapter
    view = shared_view(base.model)
    if adapter is not None:
        view = adapter.apply(view)
    words = tuple(answers[0] for answers in classifier.label_words_)
    task = forwards.Task(view, base.tokenizer, words, classifier.get_prompt)

    def seconds(batch: int) -> float:
        repeated = [*texts] * batch
        timing = timed(lambda: forwards.padded(task, repeated, batch=batch))[1]
        return timing.cpu_s / len(repeated)

    forwards.padded(task, list(texts), batch=1)
    best = min(_BATCHES, key=seconds)
    return lambda some: forwards.padded(task, some, batch=best)
