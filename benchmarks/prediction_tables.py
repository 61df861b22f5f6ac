"""The record of the prediction benchmark → its tables."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median as median_of
from typing import Any

from prediction_memory import EQUAL_BATCH, at_equal_batch
from tables import TIMES, Table, at_least, at_most, number, small, times
from variants import COPIED, EXPANDED, OURS, SINGLE, SKORCH

_TOTALS = (50, 200, 1000)
_TARGETS = {"two": {SINGLE: 35, SKORCH: 15}, "six": {SINGLE: 95, SKORCH: 50}}
_CASE_NAMES = {"two": "two labels of one token", "six": "six labels with shared beginnings"}


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Make the tables of the page."""
    tables = []
    for name, model in record["models"].items():
        tables += [_table(name, model, label) for label in model["cases"]]
        tables.append(_floor_table(name, model))
    return tables


@dataclass(frozen=True)
class _Figures:
    """Median CPU seconds of one variant."""

    per_text: float
    once: float

    def total(self, n_texts: int) -> float:
        return self.once + n_texts * self.per_text


def _figures(case: dict[str, Any]) -> dict[str, _Figures]:
    found = {}
    for variant, row in case["variants"].items():
        cpu = median_of(timing["cpu_s"] for timing in row["timings"]) / row["texts"]
        shared = OURS if variant == OURS else COPIED
        once = 0.0
        if variant in (OURS, COPIED, EXPANDED):
            once = median_of(timing["cpu_s"] for timing in case["once"][shared])
        if variant == OURS:
            once -= cpu  # measured with the first text
        found[variant] = _Figures(cpu, once)
    return found


def _table(name: str, model: dict[str, Any], label: str) -> Table:
    case = model["cases"][label]
    figures = _figures(case)
    ours, rows = figures[OURS], []
    for variant in sorted(figures, key=lambda v: figures[v].per_text):
        peer, measured = figures[variant], case["variants"][variant]
        is_ours = variant == OURS
        rows.append(
            [
                f"**{variant}**" if is_ours else variant,
                number(peer.per_text),
                "1" if is_ours else times(peer.per_text / ours.per_text),
                *("" if is_ours else times(peer.total(n) / ours.total(n)) for n in _TOTALS),
                number(model["memory"].get(variant)),
                "" if is_ours else small(measured["max_difference"]),
                number(peer.once) if peer.once else "",
                _setting(measured["batch"]) if variant in model["batches"] else "",
                str(measured["texts"]),
            ]
        )
    tokens = case["tokens"]
    title = f"{name}: {_CASE_NAMES[label]}, {case['shots']} shots, CPU seconds"
    header = [
        "variant", "s a text", f"{TIMES} ours", *(f"N = {n:,}" for n in _TOTALS), "MiB",
        "max. difference", "once", "batch", "texts",
    ]  # fmt: skip
    verdicts = {v: _verdict(v, label, model, figures) for v in figures if v != OURS}
    notes = [
        "Targets: " + "; ".join(f"{v}: {said}" for v, said in verdicts.items() if said) + ".",
        f"{model['parameters'] / 1e6:.1f} M parameters; prefix of {tokens['prefix']:,} tokens, "
        f"texts of {number(tokens['per_text'])} with the end of the prompt, labels of "
        f"{case['label_tokens']} tokens. *texts* is how many a round takes: totals for N texts are "
        "the one-off cost and N times the seconds a text, not runs of N texts. *once* is the cost "
        "before the first text: fit, prefix and self-tests for ours, the prefix for the two "
        "caches. *max. difference* is the largest difference of log p(label | prompt) from ours. "
        "*MiB* is the peak above the loaded model, in a new process, with two labels, at the "
        f"fastest batch size{_equal_batch_memory(model['memory'])}.",
        _explanation(case["explained"]),
    ]
    return Table(title, header, rows, notes)


def _equal_batch_memory(used: dict[str, float]) -> str:
    """Return the memory of the caches with more texts at a time, as on an accelerator."""
    found = [
        f"{variant} {number(used[at_equal_batch(variant)])}"
        for variant in (COPIED, EXPANDED)
        if at_equal_batch(variant) in used
    ]
    return f"; with {EQUAL_BATCH} texts at a time: {', '.join(found)}" if found else ""


def _setting(setting: Any) -> str:
    if isinstance(setting, list):
        batch, grouped = setting
        return f"{batch}{', grouped heads' if grouped else ''}"
    return str(setting)


def _verdict(variant: str, label: str, model: dict[str, Any], figures: dict[str, _Figures]) -> str:
    ours, peer = figures[OURS], figures[variant]
    target = _TARGETS[label].get(variant)
    if variant == SKORCH and target:
        return "N = 1,000: " + at_least(peer.total(1000) / ours.total(1000), target)
    if target:
        return at_least(peer.per_text / ours.per_text, target)
    if variant in (COPIED, EXPANDED):
        used = model["memory"]
        memory_ratio = used[variant] / used[OURS] if variant in used else None
        return (
            f"time {at_least(peer.per_text / ours.per_text, 1.1)}; memory {times(memory_ratio)}, "
            f"{at_least(memory_ratio, 10)}"
        )
    return ""


def _explanation(explained: dict[str, Any]) -> str:
    sentences = [
        "The harness moves white space at the end of a prompt "
        f"({explained['harness_moves']!r} here) to each label and scores it too, which adds the "
        "same to all labels; without it the difference is "
        f"{small(explained['harness_without_what_it_moves'])}."
    ]
    if "skorch_unchanged" in explained:
        sentences.append(
            "skorch tokenises labels by themselves, with the start token that this tokenizer puts "
            f"before every string. So it differs by {small(explained['skorch_unchanged'])}, "
            "because the start token is scored as a part of the label (computed by hand, the same "
            f"to {small(explained['skorch_unchanged_explained'])}). It is measured without that "
            "token."
        )
    return " ".join(sentences)


def _floor_table(name: str, model: dict[str, Any]) -> Table:
    rows = []
    for label, case in model["cases"].items():
        tokens = case["tokens"]
        needed = tokens["per_text"] + tokens["inner_nodes"]
        padding = 100 * (tokens["forwarded"] / needed - 1)
        rate = max(case["gemm_gflop_per_s"].values())
        floor = tokens["flop"] / rate / 1e9
        ratio = _figures(case)[OURS].per_text / floor
        rows.append(
            [
                _CASE_NAMES[label],
                number(tokens["per_text"]),
                str(tokens["inner_nodes"]),
                number(tokens["forwarded"], 4),
                f"{padding:.1f} %, {at_most(padding, 10, ' %')}",
                number(tokens["flop"] / 1e9),
                times(tokens["flop_of_full_prompt"] / tokens["flop"]),
                number(rate),
                number(floor),
                f"{times(ratio)}, {at_most(ratio, 1.25)}",
            ]
        )
    header = [
        "labels", "tokens of a text", "inner nodes", "forwarded", "padding", "GFLOP a text",
        "a full prompt", "GFLOP/s", "floor, s a text", "ours over the floor",
    ]  # fmt: skip
    note = (
        "The floor is the arithmetic of a text's tokens and the inner nodes (layers, attention to "
        "prefix and text, output at the nodes) at the speed that float32 matrix products of this "
        "model's shapes reach in the same run. *a full prompt*: the operations of one forward pass "
        "of the full prompt over those of a text."
    )
    return Table(f"{name}: tokens a text, and the floor of the arithmetic", header, rows, [note])
