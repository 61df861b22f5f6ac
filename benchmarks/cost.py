"""Cost curves on the bundled model: texts, shots, labels, and rows tuned on.

Every point is measured in a new process, so that the peak of memory belongs to it alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from statistics import median as median_of
from typing import Any

import models
import texts as data
import torch
from fits import without_restart
from measuring import Settings, Timing, as_json, peak_memory, run_fresh, set_threads, timed
from tables import TIMES, Table, number
from torch.optim.optimizer import register_optimizer_step_post_hook

from instructclf import InstructionTunedClassifier, PromptClassifier, TrainingOptions

_CURVES = {
    "texts": (100, 1_000, 10_000, 100_000),
    "shots": (0, 2, 4, 8, 16, 32, 64),
    "labels": (2, 6, 20, 50, 150),
    "rows": (16, 128, 512, 2_048, 8_192, 32_000),
}
_TOY_CURVES = {"texts": (10, 100), "shots": (2,), "labels": (6,), "rows": (4,)}
_MEASURED_ONCE = 512
"""From so many texts or rows on, a point is measured in one round."""
_MOST_STEPS = 256
"""A longer epoch stops after so many steps, and the rest of its seconds is extrapolated."""
_N_TEXTS = 64
"""Texts to predict at each number of shots or labels."""
_BATCH = 8
_MEMORY_TARGET = 1.2
_SMALL, _LARGE = "1000", "100000"


def measure(settings: Settings) -> dict[str, Any]:
    """Measure all curves."""
    curves = _TOY_CURVES if settings.toy else _CURVES
    return {
        "curves": {
            curve: {
                str(n): run_fresh(
                    f"cost:over_{curve}",
                    n=n,
                    rounds=1 if n >= _MEASURED_ONCE else settings.rounds,
                    toy=settings.toy,
                    threads=settings.threads,
                    seed=settings.seed,
                )
                for n in points
            }
            for curve, points in curves.items()
        }
    }


# Points


def over_texts(*, n: int, rounds: int, toy: bool, threads: int, seed: int) -> dict[str, Any]:
    """Predict ``n`` different texts of four words after four shots."""
    pair = _load(toy=toy, threads=threads, seed=seed)
    shots = data.short_rows(4, data.TWO_LABELS, seed=seed)
    texts = data.short_rows(n, data.TWO_LABELS, seed=seed + 1).texts
    with peak_memory() as used:
        classifier = _prompting(pair, 4).fit(shots.texts, shots.labels)
        _, first = timed(lambda: classifier.predict_log_proba(texts))
    again = [timed(lambda: classifier.predict_log_proba(texts))[1] for _ in range(rounds - 1)]
    return {"timings": as_json([first, *again]), **_mib(used)}


def over_shots(*, n: int, rounds: int, toy: bool, threads: int, seed: int) -> dict[str, Any]:
    """Predict texts of a hundred tokens after ``n`` shots of forty."""
    pair = _load(toy=toy, threads=threads, seed=seed)
    labels = data.TWO_LABELS
    shots = data.paired_reviews(
        pair[1], data.SHORT_SHOT, max(n, 2), labels, split="train", seed=seed
    )
    texts = data.paired_reviews(pair[1], data.TEXT, _N_TEXTS, labels, seed=seed).texts
    return _fit_and_predict(
        lambda: _prompting(pair, n).fit(shots.texts, shots.labels), texts, rounds
    )


def over_labels(*, n: int, rounds: int, toy: bool, threads: int, seed: int) -> dict[str, Any]:
    """Predict texts of a hundred tokens as one of ``n`` labels, without shots."""
    pair = _load(toy=toy, threads=threads, seed=seed)
    labels = data.MANY_LABELS[:n]
    texts = data.paired_reviews(pair[1], data.TEXT, _N_TEXTS, labels, seed=seed).texts
    return _fit_and_predict(
        lambda: _prompting(pair, 0).fit([*labels] * 3, [*labels] * 3), texts, rounds
    )


def over_rows(*, n: int, rounds: int, toy: bool, threads: int, seed: int) -> dict[str, Any]:
    """Tune on ``n`` rows of four words for one epoch, or for its first steps if it is long."""
    pair = _load(toy=toy, threads=threads, seed=seed)
    rows = data.short_rows(n, data.TWO_LABELS, seed=seed)
    _tuning(pair).fit(rows.texts[:4], rows.labels[:4])  # imports what tuning needs
    steps: list[float] = []
    with peak_memory() as used:
        first = _time_epoch(pair, rows, steps)
    again = [_time_epoch(pair, rows, []) for _ in range(rounds - 1)]
    return {"timings": as_json([first, *again]), "steps_taken": len(steps), **_mib(used)}


class _EnoughSteps(Exception):  # noqa: N818  (not an error: it ends a long epoch)
    pass


def _time_epoch(pair: tuple[Any, Any], rows: data.Rows, steps: list[float]) -> Timing:
    """Time an epoch, and append the CPU time at the end of each step to ``steps``."""
    n_steps = math.ceil(len(rows.texts) / _BATCH)

    def count(*_: Any) -> None:
        steps.append(time.process_time())
        if len(steps) == _MOST_STEPS < n_steps:
            raise _EnoughSteps

    def fit() -> None:
        with suppress(_EnoughSteps):
            _tuning(pair).fit(rows.texts, rows.labels)

    handle = register_optimizer_step_post_hook(count)
    _, timing = timed(fit)
    handle.remove()
    if len(steps) == n_steps:
        return timing
    a_step = median_of(after - before for before, after in pairwise(steps))
    share = timing.wall_s / timing.cpu_s
    rest = (n_steps - len(steps)) * a_step
    return Timing(timing.cpu_s + rest, timing.wall_s + rest * share)


def _fit_and_predict(
    fit: Callable[[], PromptClassifier], texts: list[str], rounds: int
) -> dict[str, Any]:
    """Time the fit with the first text, and then all texts."""
    fit().predict_log_proba(texts[:1])  # imports, and tables that torch makes once
    once, timings = [], []
    with peak_memory() as used:
        for _ in range(rounds):
            classifier, fitting = timed(lambda: _with_prefix(fit(), texts))
            once.append(fitting)
            _, timing = timed(lambda c=classifier: c.predict_log_proba(texts))
            timings.append(timing)
    return {
        "once": as_json(once),
        "timings": as_json(timings),
        "texts": len(texts),
        "prompt_characters": len(fit().get_prompt("")),
        **_mib(used),
    }


def _with_prefix(classifier: PromptClassifier, texts: list[str]) -> PromptClassifier:
    classifier.predict_log_proba(texts[:1])
    return classifier


def _load(*, toy: bool, threads: int, seed: int) -> tuple[Any, Any]:
    """Return the model with all weights read once, so that they count as memory used before."""
    set_threads(threads)
    pair = models.load(models.BUNDLED, toy=toy, seed=seed)
    with torch.inference_mode():
        pair[0](input_ids=torch.arange(16)[None], use_cache=False)
    return pair


def _prompting(pair: tuple[Any, Any], n_shots: int) -> PromptClassifier:
    return PromptClassifier(pair, n_shots=n_shots, calibration=None, random_state=0)


class _Tuning(InstructionTunedClassifier):
    """Our classifier without a restart, since labels of made-up rows cannot be learned."""

    def fit(self, X: Any, y: Any = None) -> Any:
        with without_restart():
            return super().fit(X, y)


def _tuning(pair: tuple[Any, Any]) -> InstructionTunedClassifier:
    return _Tuning(
        pair,
        calibration=None,
        max_epochs=1,
        batch_size=_BATCH,
        training_options=TrainingOptions(target_loss=0.0),
        random_state=0,
    )


def _mib(used: Any) -> dict[str, float]:
    return {"before_mib": used.before, "peak_mib": used.peak, "extra_mib": used.extra}


# Tables


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Make the tables of the page."""
    curves = record["curves"]
    return [
        _texts_table(curves["texts"]),
        _prompt_table("shots", curves["shots"], "Shots of forty tokens, texts of a hundred."),
        _prompt_table(
            "labels",
            curves["labels"],
            "Labels such as “late delivery”, two to six tokens, fifteen at a time with the same "
            "beginning; no shots, so that the prompt grows by the labels alone.",
        ),
        _rows_table(curves["rows"]),
    ]


def _seconds(timings: list[dict[str, float]], kind: str = "cpu_s") -> float:
    return median_of(timing[kind] for timing in timings)


def _texts_table(points: dict[str, Any]) -> Table:
    rows = [
        [
            f"{int(n):,}",
            number(_seconds(point["timings"])),
            number(1000 * _seconds(point["timings"]) / int(n)),
            number(point["peak_mib"], 4),
            number(point["extra_mib"]),
        ]
        for n, point in points.items()
    ]
    notes = ["Texts of four words, all different, four shots. Memory: resident, of the process."]
    if _SMALL in points and _LARGE in points:
        ratios = [points[_LARGE][kind] / points[_SMALL][kind] for kind in ("peak_mib", "extra_mib")]
        met = "met" if ratios[0] <= _MEMORY_TARGET else "**missed**"
        notes.append(
            f"Peak for 100,000 texts over that for 1,000: {number(ratios[0])} "
            f"(≤ {_MEMORY_TARGET}{TIMES}, {met}); of the memory above the loaded model: "
            f"{number(ratios[1])}."
        )
    header = ["texts", "CPU s", "ms a text", "peak, MiB", "above the loaded model, MiB"]
    return Table("Number of texts", header, rows, notes)


def _prompt_table(name: str, points: dict[str, Any], note: str) -> Table:
    rows = [
        [
            n,
            f"{point['prompt_characters']:,}",
            number(_seconds(point["once"])),
            number(1000 * _seconds(point["timings"]) / point["texts"]),
            number(point["extra_mib"]),
        ]
        for n, point in points.items()
    ]
    header = [name, "prompt, characters", "fit, prefix, first text: CPU s", "ms a text", "MiB"]
    notes = [f"{note} MiB: the peak above the loaded model."]
    return Table(f"Number of {name}", header, rows, notes)


def _rows_table(points: dict[str, Any]) -> Table:
    rows = [
        [
            f"{int(n):,}",
            number(_seconds(point["timings"])),
            number(1000 * _seconds(point["timings"]) / int(n)),
            f"{point['steps_taken']:,} of {math.ceil(int(n) / _BATCH):,}",
            number(point["extra_mib"]),
        ]
        for n, point in points.items()
    ]
    header = ["rows", "CPU s an epoch", "ms a row", "steps run", "MiB"]
    note = (
        "Rows of four words, one epoch, default adapter (all linear layers, rank 16), batches of "
        f"{_BATCH}, no calibration. Where only some steps were run, all rows were encoded, and "
        "each other step counts as the median step. MiB: the peak above the loaded "
        "model."
    )
    return Table("Rows tuned on", header, rows, [note])
