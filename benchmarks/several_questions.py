"""Measure what more questions about a text cost, when all are answered in one pass.

    python benchmarks/several_questions.py                    Gemma 3 270M, 16 shots
    python benchmarks/several_questions.py --model bundled --texts 8
    python benchmarks/several_questions.py --table            the tables from the existing JSON

``--model`` takes ``gemma3``, ``smollm2``, ``bundled``, a GGUF file or a folder. One question is
asked by `PromptClassifier`, five and twenty by `MultiOutputPromptClassifier`. Texts have a hundred
tokens or thirty, those of the shots as many. Predictions are timed in turn, and each is compared
with the one question of its round. Measurements go into ``results/several_questions.json``, and the
tables into ``results/several_questions.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measuring import (
    RESULTS,
    Settings,
    as_json,
    environment,
    interleave,
    run_fresh,
    set_threads,
    timed,
)
from models import find_model
from tables import TIMES, Table, load_record, number, page, save_page, save_record
from texts import TEXT, TWO_LABELS, paired_reviews

from instructclf import MultiOutputPromptClassifier, PromptClassifier

N_SHOTS = 16
LENGTHS = {"a hundred tokens": TEXT, "thirty tokens": range(28, 34)}
FIVE = ("opinion", "urgency", "length", "anger", "detail")
TWENTY = (
    "billing", "login", "refund", "delivery", "damage", "password", "invoice", "account", "battery",
    "screen", "cable", "colour", "size", "warranty", "repair", "manual", "noise", "price", "return",
    "praise",
)  # fmt: skip
TARGET = 1.5
ONE = "one question"


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=arguments.rounds, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    if not arguments.table:
        cases = [
            {"length": length}
            | run_fresh(
                "several_questions:measure",
                path=find_model(arguments.model),
                length=length,
                n_texts=arguments.texts,
                rounds=settings.rounds,
                threads=settings.threads,
            )
            for length in LENGTHS
        ]
        environs = environment(settings)
        record = {"environment": environs, "model": arguments.model, "cases": cases}
        save_record(record, "several_questions", settings.out)
    record = load_record("several_questions", settings.out)
    text = page(record, [tabulate(record)])
    print(text, flush=True)
    save_page(text, "several_questions", settings.out)


def measure(*, path: str, length: str, n_texts: int, rounds: int, threads: int) -> dict[str, Any]:
    """Time the fits once, and predictions of the same texts in turn."""
    set_threads(threads)
    options: dict[str, Any] = {"n_shots": None, "calibration": None, "random_state": 0}
    one = PromptClassifier(path, **options)
    tokenizer = one.open_model().base.tokenizer
    tokens = LENGTHS[length]
    shots = paired_reviews(tokenizer, tokens, N_SHOTS, TWO_LABELS, split="train", seed=0)
    texts = paired_reviews(tokenizer, tokens, n_texts, TWO_LABELS, seed=1).texts
    rng = np.random.RandomState(0)
    five = np.array([rng.permutation(shots.labels) for _ in FIVE]).T
    twenty = np.array([rng.permutation(N_SHOTS) % 2 for _ in TWENTY]).T
    fits: dict[str, Callable[[], Any]] = {
        ONE: lambda: one.fit(shots.texts, shots.labels),
        "five questions of two labels": lambda: _ask(FIVE, path, options).fit(shots.texts, five),
        "twenty labels": lambda: _ask(TWENTY, path, options).fit(shots.texts, twenty),
    }
    fitted, seconds = {}, {}
    for name, fit in fits.items():
        fitted[name], timing = timed(lambda fit=fit: _with_prefix(fit(), texts))
        seconds[name] = timing.cpu_s
    calls = {name: lambda own=own: own.predict(texts) for name, own in fitted.items()}
    timings = interleave(calls, rounds)
    return {
        "texts": n_texts,
        "fits": seconds,
        "prompt_characters": {name: len(own.get_prompt("")) for name, own in fitted.items()},
        "timings": {name: as_json(own) for name, own in timings.items()},
    }


def _ask(names: tuple[str, ...], path: str, options: dict[str, Any]) -> Any:
    return MultiOutputPromptClassifier(path, questions=[*names], **options)


def _with_prefix(classifier: Any, texts: list[str]) -> Any:
    classifier.predict(texts[:2])
    return classifier


def tabulate(record: dict[str, Any]) -> Table:
    """Return a row for each number of questions and length of texts."""
    rows = []
    for case in record["cases"]:
        base = [timing["cpu_s"] for timing in case["timings"][ONE]]
        for name, timings in case["timings"].items():
            seconds = [timing["cpu_s"] for timing in timings]
            ratio = median(own / one for own, one in zip(seconds, base, strict=True))
            rows.append(
                [
                    case["length"],
                    name,
                    f"{case['prompt_characters'][name]:,}",
                    number(case["fits"][name]),
                    number(1000 * median(seconds) / case["texts"]),
                    f"{ratio:.2f}{TIMES}",
                    "" if name == ONE else "met" if ratio <= TARGET else "**missed**",
                ]
            )
    header = ["texts of", "asked", "prompt, characters", "fit, prefix, first texts: CPU s"]
    header += ["a text, CPU ms", "of one question", f"≤ {TARGET}{TIMES}"]
    notes = [f"Model: {record['model']}, {N_SHOTS} shots with all answers, no calibration."]
    return Table("Several questions in one pass", header, rows, notes)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gemma3")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the table again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
