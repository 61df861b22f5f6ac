"""The record of the comparison with other engines → its tables."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
from tables import Table, number, times

OURS = ("float32", "bfloat16")
CALIBRATED = "bfloat16, calibrated"
LLAMA, LLAMA_FILE = "llama.cpp, bfloat16", "llama.cpp, the file as it is"
_REFERENCE = "float32"
_COMPARED = "bfloat16"
_STAGES = {
    "imports": "imports",
    "load": "the model loaded",
    "fit": "fitted",
    "first text": "the first text",
    "texts": "all texts",
}


def tabulate_times(record: dict[str, Any]) -> Table:
    """Return one row for each model and engine."""
    rows, tokens = [], []
    for case in record["cases"]:
        kinds = case["kinds"]
        tokens.append(_describe(case))
        compared = _per_text(kinds[_COMPARED])
        exact = np.array(kinds[_REFERENCE][0]["scores"])
        for kind, runs in kinds.items():
            if kind == CALIBRATED:
                continue
            scores = np.array(runs[0]["scores"])
            changes = np.abs(scores - exact)
            flips = int((scores.argmax(axis=1) != exact.argmax(axis=1)).sum())
            shown = [f"{changes.max():.3f}", f"{changes.mean():.3f}", str(flips)]
            rows.append(
                [
                    *(case["model"], kind, number(_seconds(runs, "load"))),
                    *(number(_once(runs)), number(_per_text(runs))),
                    times(_per_text(runs) / compared),
                    *(shown if kind != _REFERENCE else ["", "", ""]),
                    *(number(value, 4) for value in _peaks(runs)),
                ]
            )
    header = ["model", "engine and precision", "load, s", "once, s", "s a text"]
    header += [f"over {_COMPARED}", "largest change of log p", "mean", "changed predictions"]
    header += ["peak, MiB", "of that anonymous"]
    notes = [
        f"CPU seconds, medians over rounds of processes that take turns. {' '.join(tokens)} "
        "*once*: fit, checks, prefix and first text, less a text. Rows of a precision alone are "
        "ours, without calibration. Changes are from our float32. Memory is that of the whole "
        "process, its libraries included; anonymous memory is what is not mapped from files."
    ]
    attention = "fused attention" if record["flash"] else "attention in separate steps"
    notes.append(
        f"llama.cpp: built for this processor, {attention}, cache in bfloat16, batches of up to "
        f"{record['batch']} tokens. Its own tool writes the file in bfloat16 from the same GGUF "
        "file."
    )
    return Table("Whole predictions, 16 shots, two labels", header, rows, notes)


def tabulate_memory(record: dict[str, Any]) -> Table:
    """Return the peak of each stage of ours, with calibration, and the memory after it."""
    rows = []
    for case in record["cases"]:
        for kind in (_COMPARED, CALIBRATED):
            if kind not in case["kinds"]:
                continue
            stages = case["kinds"][kind][-1]["stages"]
            for name, title in _STAGES.items():
                found = stages[name]
                values = (found["peak_mib"], found["resident_mib"], found["anonymous_mib"])
                rows.append([case["model"], kind, title, *(number(v, 4) for v in values)])
    header = ["model", "precision", "after", "peak until then, MiB", "resident", "anonymous"]
    note = "The rest of what is resident is mapped from files: libraries, and the weights."
    return Table("Memory of a process, stage by stage", header, rows, [note])


def _describe(case: dict[str, Any]) -> str:
    n_texts = len(case["kinds"][_REFERENCE][0]["scores"])
    tokens = case["tokens"]
    return (
        f"{case['model']}: prefix of {tokens['prefix']:,} tokens, {n_texts} texts of "
        f"{number(tokens['text'])}."
    )


def _seconds(runs: list[dict[str, Any]], *stages: str) -> float:
    return median(
        sum(run["stages"].get(stage, {"cpu_s": 0.0})["cpu_s"] for stage in stages) for run in runs
    )


def _per_text(runs: list[dict[str, Any]]) -> float:
    return _seconds(runs, "texts") / len(runs[0]["scores"])


def _once(runs: list[dict[str, Any]]) -> float:
    return _seconds(runs, "fit", "first text") - _per_text(runs)


def _peaks(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the peak of a process, and how much of it was not mapped from files."""
    worst = max(
        (stage for run in runs for stage in run["stages"].values()), key=lambda s: s["peak_mib"]
    )
    files = worst["resident_mib"] - worst["anonymous_mib"]
    return worst["peak_mib"], worst["peak_mib"] - files
