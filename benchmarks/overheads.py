"""Costs beyond the arithmetic: importing, fitting apart from its steps, adapter, tokenisation."""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median as median_of
from typing import Any

import models
import texts as data
from fits import all_steps, without_restart
from measuring import Settings, as_json, interleave
from tables import Table, at_most, number, times
from torch.optim.optimizer import register_optimizer_step_post_hook

from instructclf import InstructionTunedClassifier, PromptClassifier

_HEAVY = (
    "numpy", "scipy", "sklearn", "pandas", "torch", "transformers", "tokenizers", "peft",
    "accelerate", "datasets", "matplotlib",
)  # fmt: skip
_IMPORT = """
import json, sys, time
start = time.perf_counter()
{line}
seconds = time.perf_counter() - start
print(json.dumps([seconds, [name for name in {heavy!r} if name in sys.modules]]))
"""
_N_ROWS = 2
_EPOCHS = (1, 3)
"""Two lengths of a fit: their difference gives the cost of a step, and the rest is fixed."""
_SECONDS_TO_MS = 1000


def measure(settings: Settings) -> dict[str, Any]:
    """Measure each overhead; those of a model on each model."""
    n_imports = 3 if settings.toy else 5 * settings.rounds
    return {
        "import": _measure_import(n_imports),
        "models": {name: _measure_model(name, settings) for name in settings.models},
    }


def _measure_import(n_times: int) -> dict[str, Any]:
    """Start interpreters that import the package, and empty ones, in turn."""
    found: dict[str, Any] = {"package": [], "empty": [], "inside": [], "heavy": []}
    for _ in range(n_times):
        for name, line in (("package", "import instructclf"), ("empty", "pass")):
            code = _IMPORT.format(line=line, heavy=_HEAVY)
            start = _children_cpu_s()
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            found[name].append(_children_cpu_s() - start)
            if name == "package":
                inside, found["heavy"] = json.loads(done.stdout)
                found["inside"].append(inside)
    return found


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measure_model(name: str, settings: Settings) -> dict[str, Any]:
    pair = models.load(name, toy=settings.toy, seed=settings.seed)
    n_texts = 8 if settings.toy or name == models.SMOLLM2 else 64
    rows = data.short_rows(_N_ROWS, data.TWO_LABELS, seed=settings.seed)
    texts = data.paired_reviews(
        pair[1], data.TEXT, n_texts, data.TWO_LABELS, seed=settings.seed
    ).texts
    return {
        "fit": _measure_fit(pair, rows, settings.rounds),
        "adapter": _measure_adapter(pair, rows, texts, settings.rounds),
        "tokenisation": _measure_tokenisation(pair, texts),
        "texts": n_texts,
    }


def _tuning(pair: tuple[Any, Any], epochs: int) -> InstructionTunedClassifier:
    """Return a classifier that takes one step an epoch, without stopping early."""
    return InstructionTunedClassifier(
        pair,
        calibration=None,
        max_epochs=epochs,
        batch_size=_N_ROWS,
        training_options=all_steps(epochs),
        random_state=0,
    )


def _measure_fit(pair: tuple[Any, Any], rows: data.Rows, rounds: int) -> dict[str, Any]:
    """Time short and longer fits. The first, untimed, imports what tuning needs."""

    def fit(epochs: int) -> None:
        with without_restart():
            _tuning(pair, epochs).fit(rows.texts, rows.labels)

    fit(1)
    with _counted_steps() as steps:
        fit(_EPOCHS[-1])
    timings = interleave({str(n): lambda n=n: fit(n) for n in _EPOCHS}, rounds)
    return {
        "steps_of_longest": len(steps),
        "timings": {n: as_json(values) for n, values in timings.items()},
    }


@contextmanager
def _counted_steps() -> Iterator[list[int]]:
    steps: list[int] = []
    handle = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    try:
        yield steps
    finally:
        handle.remove()


def _measure_adapter(
    pair: tuple[Any, Any], rows: data.Rows, texts: list[str], rounds: int
) -> dict[str, Any]:
    """Predict through a tuned classifier and through the base model, after the same prompt."""
    with without_restart():
        tuned = _tuning(pair, 1).fit(rows.texts, rows.labels)
    base = PromptClassifier(pair, n_shots=0, calibration=None).fit(rows.texts, rows.labels)
    if tuned.get_prompt(texts[0]) != base.get_prompt(texts[0]):
        msg = "The tuned classifier and the base model read different prompts."
        raise ValueError(msg)
    timings = interleave(
        {
            "tuned": lambda: tuned.predict_log_proba(texts),
            "base": lambda: base.predict_log_proba(texts),
        },
        max(rounds, 3),
        warm_up=True,
    )
    return {name: as_json(values) for name, values in timings.items()}


def _measure_tokenisation(pair: tuple[Any, Any], texts: list[str]) -> dict[str, float]:
    """Profile a 16-shot prediction: seconds inside the tokenizer, and in all.

    The profiler does not slow down the tokenizer's compiled functions, but all others, which makes
    the share look smaller by some percent.
    """
    shots = data.paired_reviews(pair[1], data.SHOT, 16, data.TWO_LABELS, split="train", seed=1)
    classifier = PromptClassifier(pair, n_shots=16, calibration=None, random_state=0)
    classifier.fit(shots.texts, shots.labels).predict_log_proba(texts[:1])
    profile = cProfile.Profile(time.process_time)
    profile.runcall(classifier.predict_log_proba, texts)
    entries = pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]
    inside = sum(
        seconds for (_, _, name), (_, _, seconds, _, _) in entries.items() if "tokenizers." in name
    )
    return {
        "tokenizer_s": inside,
        "total_s": sum(seconds for _, _, seconds, _, _ in entries.values()),
    }


# Tables

_IMPORT_MS, _FIT_MS, _ADAPTER_RATIO = 50, 100, 1.1


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Make the table of the page."""
    found = record["import"]
    extra = _SECONDS_TO_MS * (median_of(found["package"]) - median_of(found["empty"]))
    inside = _SECONDS_TO_MS * median_of(found["inside"])
    heavy = ", ".join(found["heavy"]) or "none"
    rows = [
        [
            "`import instructclf` over an empty interpreter, CPU",
            f"{number(extra)} ms ({number(inside)} ms of the clock for the statement)",
            at_most(extra, _IMPORT_MS, " ms"),
        ],
        [
            "heavy modules after it",
            heavy,
            f"none, {'**missed**' if found['heavy'] else 'met'}",
        ],
    ]
    for name, model in record["models"].items():
        rows += _model_rows(name, model)
    notes = [
        f"The fixed part of a fit is computed from fits of {_EPOCHS[0]} and {_EPOCHS[-1]} steps, "
        "with all imports done: two rows of four words in one batch, so that steps are short. The "
        "adapter's ratio is a tuned classifier (all linear layers, rank 16) over "
        "`PromptClassifier(n_shots=0)` after the same prompt, on texts of about a hundred tokens. "
        "The tokenizer's share is that of a 16-shot prediction after the prefix is computed.",
    ]
    return [Table("Overheads", ["what", "measured", "target"], rows, notes)]


def _model_rows(name: str, model: dict[str, Any]) -> list[list[str]]:
    fit = {int(n): _cpu(timings) for n, timings in model["fit"]["timings"].items()}
    few, many = _EPOCHS[0], _EPOCHS[-1]
    step = (fit[many] - fit[few]) / (many - few)
    fixed = _SECONDS_TO_MS * (fit[few] - few * step)
    ratio = _cpu(model["adapter"]["tuned"]) / _cpu(model["adapter"]["base"])
    tokens = model["tokenisation"]
    share = 100 * tokens["tokenizer_s"] / tokens["total_s"]
    return [
        [
            f"{name}: a fit beyond its steps",
            f"{number(fixed)} ms (a step: {number(_SECONDS_TO_MS * step)} ms)",
            at_most(fixed, _FIT_MS, " ms"),
        ],
        [
            f"{name}: predicting through an adapter over the base model",
            times(ratio),
            at_most(ratio, _ADAPTER_RATIO),
        ],
        [f"{name}: tokenizer's share of a prediction", f"{number(share)} %", ""],
    ]


def _cpu(timings: list[dict[str, float]]) -> float:
    return median_of(timing["cpu_s"] for timing in timings)
