"""Measure what a prediction with a real model costs by labels, shots, length and number of texts.

    python benchmarks/cost_curves.py                     SmolLM2, in bfloat16
    python benchmarks/cost_curves.py --model gemma3 --texts 32
    python benchmarks/cost_curves.py --table             the tables from the existing JSON

``--model`` takes ``gemma3``, ``smollm2``, a GGUF file or a folder. One thing changes at a time, in
one process; without calibration. Each point is written to ``results/cost_curves.json`` as soon as
it is measured, and at the end the tables to ``results/cost_curves.md``. ``cost.py`` has longer
curves of the bundled model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import texts as data
from measuring import RESULTS, Settings, embedded_tokens, environment, set_threads, timed
from models import find_model
from tables import Table, load_record, number, page, save_page, save_record

from instructclf import ModelOptions, PromptClassifier

_LABELS = (2, 20, 150)
_SHOTS = (0, 16, 64, 256)
_LENGTHS = (25, 100, 400)
_TEXTS = (4, 32, 128)
_SOME_SHOTS = 8
_MOST_PADDING = 0.05


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=1, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    if not arguments.table:
        record: dict[str, Any] = {"environment": environment(settings), "curves": {}}
        record |= {"model": arguments.model, "dtype": arguments.dtype}
        for curve, point in _measure(arguments):
            record["curves"].setdefault(curve, []).append(point)
            save_record(record, "cost_curves", settings.out)
    record = load_record("cost_curves", settings.out)
    text = page(record, tabulate(record))
    print(text, flush=True)
    save_page(text, "cost_curves", settings.out)


def _measure(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield curves and their points, one after the other."""
    model = _Model(find_model(arguments.model), arguments.dtype)
    n_texts = arguments.texts
    for n in _LABELS:
        labels = data.MANY_LABELS[:n]
        rows = data.Rows([*labels] * 3, [*labels] * 3)
        yield "labels", model.measure(n, rows, 0, model.texts(100, n_texts))
    rows = model.rows(data.SHORT_SHOT, _SOME_SHOTS)
    for n in _LENGTHS:
        yield "length", model.measure(n, rows, _SOME_SHOTS, model.texts(n, n_texts))
    for n in _TEXTS:
        short = data.short_rows(n, data.TWO_LABELS, seed=1).texts
        yield "texts", model.measure(n, rows, _SOME_SHOTS, short)
    for n in _SHOTS:
        rows = model.rows(data.SHORT_SHOT, max(n, 2))
        yield "shots", model.measure(n, rows, n, model.texts(100, n_texts))


class _Model:
    """Classifiers of one model, and texts that are so many of its tokens long."""

    def __init__(self, path: str, dtype: str) -> None:
        self._path = path
        self._options = ModelOptions(dtype=dtype)
        self._base = self._make(0).open_model().base
        self._tokenizer = self._base.tokenizer

    def rows(self, lengths: range, n_rows: int) -> data.Rows:
        return data.paired_reviews(
            self._tokenizer, lengths, n_rows, data.TWO_LABELS, split="train", seed=0
        )

    def texts(self, n_tokens: int, n_texts: int) -> list[str]:
        """Return texts of about so many tokens, of as many pairs of reviews as that takes."""
        few = min(n_tokens, 100)
        lengths = range(int(few * 0.9), int(few * 1.1) + 1)
        n_parts = max(1, round(n_tokens / few))
        parts = data.paired_reviews(
            self._tokenizer, lengths, n_texts * n_parts, data.TWO_LABELS, seed=1
        ).texts
        return [" ".join(parts[i::n_texts]) for i in range(n_texts)]

    def measure(
        self, n: int, rows: data.Rows, n_shots: int, texts: Sequence[str]
    ) -> dict[str, Any]:
        """Time the fit with the first text, and then all texts, or say that they do not fit."""
        classifier = self._make(n_shots)
        if n_shots > len(rows.texts):
            msg = f"{n_shots} shots were asked for, and there are {len(rows.texts)} rows."
            raise ValueError(msg)

        def fit() -> None:
            classifier.fit(rows.texts, rows.labels).label_log_likelihood(texts[:1])

        _, once = timed(fit)
        with embedded_tokens() as n_forwarded:
            _, all_texts = timed(lambda: classifier.label_log_likelihood(texts))
        scorer = classifier.labeller_.scorer(classifier.open_model)
        prompts = scorer.encoder.encode(texts)
        n_prefix = len(scorer.encoder.prefix_ids)
        n_needed = sum(p.n_tokens - n_prefix + len(p.trie.tokens) - 1 for p in prompts)
        a_text = all_texts.cpu_s / len(texts)
        return {
            "n": n,
            "n_prefix": n_prefix,
            "n_tokens": n_needed / len(texts),
            "once_s": once.cpu_s - a_text,
            "text_s": a_text,
            "padding": 1 - n_needed / sum(n_forwarded),
            "n_texts": len(texts),
        }

    def _make(self, n_shots: int) -> PromptClassifier:
        return PromptClassifier(
            self._path,
            n_shots=n_shots,
            calibration=None,
            random_state=0,
            model_options=self._options,
        )


# Tables


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Return one table for each curve."""
    curves = record["curves"]
    notes = {
        "labels": ["Labels of several tokens, such as “late delivery”; no shots, texts of 100."],
        "shots": ["Shots of forty tokens, texts of 100. More than fit the context are shortened."],
        "length": [f"{_SOME_SHOTS} shots of forty tokens."],
        "texts": [f"{_SOME_SHOTS} shots of forty tokens, texts of four words.", _padding(curves)],
    }
    titles = {"length": "tokens of a text", "texts": "number of texts"}
    return [
        _curve_table(f"{record['model']}, {record['dtype']}: {titles.get(name, name)}", found, note)
        for name, note in notes.items()
        if (found := curves.get(name))
    ]


def _curve_table(title: str, points: list[dict[str, Any]], notes: list[str]) -> Table:
    header = [title.rpartition(": ")[2], "tokens of the prefix", "of a text and its labels"]
    header += ["fit, checks and prefix, CPU s", "CPU s a text", "padding", "texts"]
    rows = [
        [
            *(f"{point[name]:,}" for name in ("n", "n_prefix")),
            *(number(point[name]) for name in ("n_tokens", "once_s", "text_s")),
            *(f"{point['padding']:.1%}", str(point["n_texts"])),
        ]
        for point in points
    ]
    return Table(title, header, rows, notes)


def _padding(curves: dict[str, list[dict[str, Any]]]) -> str:
    points = [point for found in curves.values() for point in found]
    worst = max(point["padding"] for point in points)
    n_missed = sum(point["padding"] > _MOST_PADDING for point in points)
    met = f"**missed** at {n_missed} of {len(points)} points" if n_missed else "met everywhere"
    return f"Padding, of all tokens that go through the model: at most {worst:.1%} (≤ 5 %, {met})."


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--texts", type=int, default=16, help="except where their number changes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the tables again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
