"""Sixteen-shot prediction: instructclf against its peers and the arithmetic.

Every variant scores the same labels after the same prompts with the same weights in one process.
Ours runs with ``calibration=None``, since calibrating would score more rows in ``fit``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import models
import numpy as np
from measuring import (
    Settings,
    Timing,
    as_json,
    embedded_tokens,
    interleave,
    matrix_multiply_rate,
    timed,
)
from numpy.typing import NDArray
from peers import forwards
from peers.forwards import Prefix, Task
from prediction_memory import measure_memory
from prediction_tables import tabulate
from variants import (
    AUTO_BATCH,
    CASES,
    COPIED,
    EXPANDED,
    HARNESS,
    OURS,
    PADDED,
    SINGLE,
    SINGLE_KEPT,
    SKORCH,
    Case,
    Scorer,
    fit_ours,
    full_prompt,
    prefix_sharing,
)

from instructclf import PromptClassifier

__all__ = ["measure", "tabulate"]

_GEMM_ROWS = (512, 2048)
"""Tokens in a matrix product: those of a batch, and many more. The faster one is the ceiling."""

_SLOW = (SINGLE, SINGLE_KEPT, SKORCH, HARNESS)
_MOST_SLOW_ROUNDS = 2
"""Rounds of the slow variants with six labels, where a text takes a minute."""


@dataclass(frozen=True)
class Sizes:
    """How many texts each variant is measured on, and the batch sizes that are tried."""

    n_shots: int
    n_ours: int
    n_shared: int
    n_slow: int
    full_batches: tuple[int, ...]
    prefix_batches: tuple[int, ...]


_SIZES = {
    models.SMOLLM2: Sizes(16, 16, 8, 1, (1, 2), (4, 8)),
    models.BUNDLED: Sizes(16, 32, 16, 2, (1, 2, 4), (4, 8, 16)),
}
_TOY_SIZES = Sizes(4, 4, 4, 1, (1, 2), (2, 4))


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every variant on every model."""
    return {"models": {name: _measure_model(name, settings) for name in settings.models}}


# One model


def _measure_model(name: str, settings: Settings) -> dict[str, Any]:
    pair = models.load(name, toy=settings.toy, seed=settings.seed)
    sizes = _TOY_SIZES if settings.toy else _SIZES[name]
    options = {"n_shots": sizes.n_shots, "n_texts": sizes.n_ours, "seed": settings.seed}
    cases = {case: Case.make(case, pair, **options) for case in CASES}
    chosen, tried = _choose_batches(cases["two"], sizes, name)
    explains = settings.toy or name == models.BUNDLED
    return {
        "parameters": sum(weight.numel() for weight in pair[0].parameters()),
        "batches_tried": tried,
        "batches": chosen,
        "cases": {
            label: _measure_case(case, sizes, chosen, settings.rounds, explains=explains)
            for label, case in cases.items()
        },
        "memory": measure_memory(name, cases["two"], chosen, settings),
    }


def _choose_batches(
    case: Case, sizes: Sizes, name: str
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Try batch sizes on the two-label case, and take the fastest of each variant."""
    task = case.task
    tried: dict[str, list[dict[str, Any]]] = {}
    for variant in (HARNESS, PADDED):
        sizes_to_try: list[int | str] = [*sizes.full_batches]
        if variant == HARNESS and name == models.BUNDLED:
            sizes_to_try.append("auto")  # runs its batches five times to find the size
        for setting in sizes_to_try:
            n_texts = setting if isinstance(setting, int) else AUTO_BATCH
            score = full_prompt(task, variant, setting)
            tried.setdefault(variant, []).append(_try(score, case.texts[:n_texts], setting))
    prefix = Prefix(task, case.texts)
    biggest = sizes.prefix_batches[-1]
    settings = [*((batch, True) for batch in sizes.prefix_batches), (biggest, False)]
    for variant in (COPIED, EXPANDED):
        for setting in settings:
            score = prefix_sharing(task, variant, setting, prefix)
            row = _try(score, case.texts[: sizes.n_shared], setting)
            tried.setdefault(variant, []).append(row)
    best = {
        variant: min(rows, key=lambda row: row["cpu_s_per_text"])["setting"]
        for variant, rows in tried.items()
    }
    return best, tried


def _try(score: Scorer, texts: Sequence[str], setting: Any) -> dict[str, Any]:
    _, timing = timed(lambda: score(texts))
    return {"setting": setting, "texts": len(texts), "cpu_s_per_text": timing.cpu_s / len(texts)}


# One case


def _measure_case(
    case: Case, sizes: Sizes, chosen: dict[str, Any], rounds: int, *, explains: bool
) -> dict[str, Any]:
    task = case.task
    classifier = fit_ours(case.pair, case.shots)
    expected = classifier.label_log_likelihood(case.texts)  # also warms up
    scorers = {OURS: (classifier.label_log_likelihood, sizes.n_ours)}
    scorers |= _make_peers(case, task, sizes, chosen)
    found: dict[str, NDArray[np.float64]] = {}
    calls = {
        variant: lambda v=variant, s=score, n=n_texts: found.__setitem__(v, s(case.texts[:n]))
        for variant, (score, n_texts) in scorers.items()
    }
    timings = _interleave(calls, rounds, spares_slow=len(case.labels) > 2)
    once = interleave(
        {
            OURS: lambda: fit_ours(case.pair, case.shots).label_log_likelihood(case.texts[:1]),
            COPIED: lambda: Prefix(task, case.texts[:2]),
        },
        min(rounds, _MOST_SLOW_ROUNDS),
    )
    shape = models.Arithmetic.of(case.pair[0])
    rates = {
        rows: matrix_multiply_rate(shape.products(rows), seconds=0.25 if rounds > 1 else 0.02)
        for rows in _GEMM_ROWS
    }
    return {
        "labels": list(case.labels),
        "label_tokens": [len(ids) for ids in task.label_ids],
        "shots": len(case.shots.texts),
        "variants": {
            variant: {
                "texts": scorers[variant][1],
                "batch": chosen.get(variant, 1),
                "timings": as_json(timings[variant]),
                "max_difference": _difference(found[variant], expected),
            }
            for variant in scorers
        },
        "once": {variant: as_json(values) for variant, values in once.items()},
        "tokens": _count_tokens(case, task, classifier),
        "gemm_gflop_per_s": rates,
        "explained": _explain(case, task, found[HARNESS], expected, with_skorch=explains),
    }


def _make_peers(
    case: Case, task: Task, sizes: Sizes, chosen: dict[str, Any]
) -> dict[str, tuple[Scorer, int]]:
    """Return each peer at its chosen batch size, and how many texts it is timed on."""
    prefix = Prefix(task, case.texts)
    scorers: dict[str, tuple[Scorer, int]] = {
        variant: (prefix_sharing(task, variant, chosen[variant], prefix), sizes.n_shared)
        for variant in (COPIED, EXPANDED)
    }
    for variant in (PADDED, HARNESS, SKORCH, SINGLE, SINGLE_KEPT):
        if variant == SINGLE_KEPT and len(case.labels) > 2:
            continue  # it costs the same per label as with two
        batch = chosen.get(variant, 1)
        n_texts = max(sizes.n_slow, batch) if isinstance(batch, int) else AUTO_BATCH
        scorers[variant] = (full_prompt(task, variant, batch), n_texts)
    return scorers


def _interleave(
    calls: dict[str, Callable[[], Any]], rounds: int, *, spares_slow: bool
) -> dict[str, list[Timing]]:
    """Time all variants; the slow ones may take fewer rounds."""
    shared = min(rounds, _MOST_SLOW_ROUNDS) if spares_slow else rounds
    timings = interleave(calls, shared)
    fast = {variant: call for variant, call in calls.items() if variant not in _SLOW}
    for variant, more in interleave(fast, rounds - shared).items():
        timings[variant] += more
    return timings


def _difference(scores: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.abs(scores - expected[: len(scores)]).max())


def _explain(
    case: Case,
    task: Task,
    harness_scores: NDArray[np.float64],
    expected: NDArray[np.float64],
    *,
    with_skorch: bool,
) -> dict[str, float]:
    """Compute what two peers score in addition to the label, and the difference that remains."""
    n = min(len(harness_scores), 2)
    spaces = case.after[len(case.after.rstrip()) :]
    prompts = task.tokenizer([case.prompt_of("A."), case.prompt_of("A.").rstrip()])["input_ids"]
    moved = prompts[0][len(prompts[1]) :]
    texts = case.texts[:n]
    rest = harness_scores[:n] - expected[:n] - forwards.ending(task, texts, moved)[:, None]
    found = {
        "harness_moves": spaces,
        "harness_without_what_it_moves": float(np.abs(rest).max()),
    }
    if with_skorch:
        from peers import skorch_few_shot  # noqa: PLC0415  (as above)

        start = task.tokenizer.bos_token
        with_start = forwards.Task(
            task.model, task.tokenizer, task.words, lambda text: task.prompt_of(text) + start
        )
        unchanged = skorch_few_shot.score(skorch_few_shot.make(task, keeps_start=True), texts)
        start_id = [task.tokenizer.bos_token_id]
        by_hand = forwards.one_by_one(with_start, texts)
        by_hand += forwards.ending(with_start, texts, start_id)[:, None]
        found["skorch_unchanged"] = _difference(unchanged, expected)
        found["skorch_unchanged_explained"] = float(np.abs(unchanged - by_hand).max())
    return found


def _count_tokens(case: Case, task: Task, classifier: PromptClassifier) -> dict[str, float]:
    """Count the tokens that go through the model, and those that no method can avoid."""
    with embedded_tokens() as n_forwarded:
        classifier.label_log_likelihood(case.texts)
    prefix = task.prefix_length(case.texts)
    after = sum(len(ids) - prefix for ids in task.prompt_ids(case.texts)) / len(case.texts)
    inner = len(task.tree.inner)
    shape = models.Arithmetic.of(case.pair[0])
    return {
        "prefix": prefix,
        "per_text": after,
        "inner_nodes": inner,
        "forwarded": sum(n_forwarded) / len(case.texts),
        "flop": shape.forward(after + inner, before=prefix, outputs=1 + inner),
        "flop_of_full_prompt": shape.forward(prefix + after, before=0, outputs=1),
    }
