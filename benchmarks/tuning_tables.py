"""The record of the tuning benchmark → its tables."""

from __future__ import annotations

import statistics
from typing import Any

import agreement
from tables import Table, at_least, at_most, number, times
from tuning_cases import LOOP, OURS, OURS_BF16, OURS_UPPER, TRAINER, TRL

_TIME_TARGETS = {TRAINER: 2.5, TRL: 3.0}
_MEMORY_TARGETS = {TRAINER: 2.0}
_BF16_TARGET = 3.5
_UPPER_TARGET = 3.0
_BEYOND_MS = 100


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Return a table for each case, then those of upper layers and of agreement."""
    tables = [_case_table(case) for case in record["cases"]]
    tables += [_upper_table(case) for case in record["upper"]]
    return [*tables, *agreement.tabulate(record["agreement"])]


def _case_table(case: dict[str, Any]) -> Table:
    seconds, peaks = _medians(case), case["peaks"]
    rows = []
    for variant in case["case"]["variants"]:
        steps = case["steps"][variant]
        beyond = 1e3 * statistics.median(step["beyond_s"] for step in steps)
        more_memory = _ratio(peaks.get(variant), peaks.get(OURS))
        rows.append(
            (
                variant,
                number(seconds[variant]),
                number(1e3 * statistics.median(step["step_s"] for step in steps)),
                number(beyond),
                times(seconds[variant] / seconds[OURS]),
                number(peaks.get(variant)),
                times(more_memory),
                "; ".join(_verdicts(variant, case, seconds, beyond, more_memory)),
            )
        )
    tokens = case["tokens"]
    note = (
        f"Rows have {tokens['mean']:.0f} tokens on average and {tokens['longest']} at most; the "
        f"prompt without a text has {tokens['empty']}. CPU seconds, medians of "
        f"{len(next(iter(case['steps'].values())))} round(s), "
        f"{next(iter(case['steps'].values()))[0]['n_steps']} optimiser steps a fit. Memory is the "
        "peak above the base model, in a new process each."
    )
    header = ("", "s a fit", "ms a step", "ms beyond steps", "time over ours", "peak MiB",
              "memory over ours", "target")  # fmt: skip
    return Table(f"Tuning: {case['title']}", header, rows, (note,))


def _verdicts(
    variant: str,
    case: dict[str, Any],
    seconds: dict[str, float],
    beyond: float,
    more_memory: float | None,
) -> list[str]:
    verdicts = []
    is_small = case["case"]["n_rows"] <= 16
    if variant in _TIME_TARGETS and is_small:
        ratio = seconds[variant] / seconds[OURS]
        verdicts.append("time " + at_least(ratio, _TIME_TARGETS[variant]))
    if variant in _MEMORY_TARGETS and is_small and more_memory is not None:
        verdicts.append("memory " + at_least(more_memory, _MEMORY_TARGETS[variant]))
    if variant == OURS_BF16 and LOOP in seconds:
        verdicts.append(
            "hand-written loop over it " + at_least(seconds[LOOP] / seconds[variant], _BF16_TARGET)
        )
    if variant == OURS:
        verdicts.append("beyond steps " + at_most(beyond, _BEYOND_MS, " ms"))
    return verdicts


def _upper_table(case: dict[str, Any]) -> Table:
    seconds = _medians(case)
    rows = [(v, number(seconds[v]), times(seconds[OURS] / seconds[v])) for v in seconds]
    ratio = seconds[OURS] / seconds[OURS_UPPER]
    note = (
        f"Activations below the tuned layers are computed once. {at_least(ratio, _UPPER_TARGET)}."
    )
    return Table(f"Upper layers only: {case['title']}", ("", "s a fit", "faster by"), rows, (note,))


def _medians(case: dict[str, Any]) -> dict[str, float]:
    return {
        variant: statistics.median(timing["cpu_s"] for timing in timings)
        for variant, timings in case["timings"].items()
    }


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
