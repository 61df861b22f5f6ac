"""Measure what the first prediction of a real model costs, and what its checks can tell.

    python benchmarks/first_prediction.py                     both real models, in bfloat16
    python benchmarks/first_prediction.py --model smollm2 --texts 8 --prompts 2
    python benchmarks/first_prediction.py --table             the tables from the existing JSON

``--model`` takes ``gemma3``, ``smollm2``, a GGUF file or a folder. The prompt has 16 shots of two
reviews each, some 1,850 tokens. Before the first prediction, shortcuts are compared with full
prompts on two short ones: the first table has the time of that. The second one compares
probabilities, which leave out the sum over the vocabulary, with likelihoods. The third one has the
effect of exact shortcuts and of mistakes of one token, in units of the effect of one more rounding
in each layer, of which ``instructclf.engine.scoring.probes`` allows a multiple. Measurements go to
``results/first_prediction.json``, and the tables into ``results/first_prediction.md``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import RESULTS, Settings, environment, run_fresh, set_threads, timed
from models import find_model
from tables import TIMES, Table, load_record, number, page, save_page, save_record
from texts import SHOT, TEXT, TWO_LABELS, paired_reviews, short_rows

from instructclf import PromptClassifier
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring import probes as checks
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.layouts import row_layout, tree_layout

N_SHOTS = 16
N_ROUNDS = 3
WORDS = {
    "one token a label": None,
    "several": {"positive": "very good", "negative": "rather bad indeed"},
}


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=1, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    if not arguments.table:
        options = {"n_texts": arguments.texts, "n_prompts": arguments.prompts}
        cases = [
            {"model": model, "dtype": arguments.dtype}
            | run_fresh(
                "first_prediction:measure",
                path=find_model(model),
                dtype=arguments.dtype,
                **options,
                threads=settings.threads,
            )
            for model in arguments.model
        ]
        record = {"environment": environment(settings), "cases": cases}
        save_record(record, "first_prediction", settings.out)
    record = load_record("first_prediction", settings.out)
    text = page(record, [tabulate_times(record), tabulate_sums(record), tabulate_effects(record)])
    print(text, flush=True)
    save_page(text, "first_prediction", settings.out)


def measure(*, path: str, dtype: str, n_texts: int, n_prompts: int, threads: int) -> dict[str, Any]:
    """Time the parts of a first prediction, and measure the effects of mistakes."""
    set_threads(threads)
    classifier = make_classifier(path, dtype, None)
    tokenizer = classifier.open_model().base.tokenizer
    shots = paired_reviews(tokenizer, SHOT, N_SHOTS, TWO_LABELS, split="train", seed=0)
    texts = paired_reviews(tokenizer, TEXT, n_texts, TWO_LABELS, seed=1).texts
    times = time_parts(classifier.fit(shots.texts, shots.labels), texts)
    calibrated = make_classifier(path, dtype, "auto")
    _, fitting = timed(lambda: calibrated.fit(shots.texts, shots.labels))
    calibrated.predict(texts[:1])
    _, after = timed(lambda: calibrated.predict(texts[1:]))
    times |= {"fit_auto": fitting.cpu_s, "text_auto": after.cpu_s / (n_texts - 1)}
    short = short_rows(5 * n_texts, TWO_LABELS, seed=1).texts
    sums = {"as above": time_sums(classifier, texts), "four words": time_sums(classifier, short)}
    return {"times": times, "sums": sums, "effects": measure_effects(path, dtype, n_prompts)}


def make_classifier(path: str, dtype: str, calibration: str | None, **options: Any) -> Any:
    """Return a classifier that shows all its rows."""
    classifier = PromptClassifier(path, n_shots=None, calibration=calibration, random_state=0)
    return classifier.set_params(model_options__dtype=dtype, **options)


def time_parts(classifier: Any, texts: list[str]) -> dict[str, float]:
    """Return the CPU seconds of the checks, of the prefix and of a text."""
    scorer = classifier.labeller_.scorer(classifier.open_model)
    (prompt,) = scorer.encoder.encode(texts[:1])
    strategies = scorer._shared._strategies  # noqa: SLF001  (the parts have no public names)
    strategy, checking = timed(lambda: strategies.choose(prompt))

    @torch.inference_mode()
    def make_prefix() -> Any:
        return strategy.prefix(scorer.model, list(prompt.prefix))

    _, sharing = timed(make_prefix)
    classifier.predict(texts[:1])
    _, rest = timed(lambda: classifier.predict(texts[1:]))
    return {
        "n_tokens": len(prompt.prefix),
        "checks": checking.cpu_s,
        "prefix": sharing.cpu_s,
        "text": rest.cpu_s / (len(texts) - 1),
    }


def time_sums(classifier: Any, texts: list[str]) -> dict[str, float]:
    """Return the CPU seconds of a text's probabilities, and of its likelihoods as well."""
    methods = {"probabilities": classifier.predict_proba, "likelihoods": classifier.label_scores}
    rounds = [
        {name: timed(lambda m=m: m(texts))[1].cpu_s for name, m in methods.items()}
        for _ in range(N_ROUNDS)
    ]
    return {name: min(each[name] for each in rounds) / len(texts) for name in methods}


@torch.inference_mode()
def measure_effects(path: str, dtype: str, n_prompts: int) -> list[dict[str, Any]]:
    """Return each effect of exact shortcuts and of mistakes, below and beyond limits."""
    found = []
    for words in WORDS.values():
        for seed in range(n_prompts):
            classifier = make_classifier(path, dtype, None, verbalizer=words)
            base = classifier.open_model().base
            rows = paired_reviews(base.tokenizer, SHOT, 6, TWO_LABELS, split="train", seed=seed)
            scorer = classifier.fit(rows.texts, rows.labels).labeller_.scorer(classifier.open_model)
            text = paired_reviews(base.tokenizer, TEXT, 1, TWO_LABELS, seed=seed).texts
            (prompt,) = scorer.encoder.encode(text)
            passed = sorted(checks.length_limits(base.config))
            for limits in [[], passed] if passed else [[]]:
                view = shared_view(base.model)
                probes = checks.make_probes(view, prompt, len(prompt.prefix), limits)
                found += _effects(probes, bool(limits), has_branches=words is not None)
    return found


def _effects(probes: Any, limits: bool, *, has_branches: bool) -> list[dict[str, Any]]:  # noqa: FBT001
    """Compare shortcuts and mistakes with full prompts, in units of one rounding."""
    unit = checks._N_ROUNDINGS  # noqa: SLF001  (the tolerance is this multiple of it)
    tries = {"exact": (row_layout, PrefixAttention), "positions": (_one_later, PrefixAttention)}
    if has_branches:
        tries |= {"exact tree": (tree_layout, PrefixAttention)}
        tries |= {"no mask": (_without_mask, PrefixAttention)}
    if limits:
        tries["window"] = (row_layout, _WiderWindow)
    return [
        {"what": what, "limits": limits, "effect": probes.difference(*shortcut) * unit}
        for what, shortcut in tries.items()
    ]


def _one_later(batch: Any, **options: Any) -> Any:
    layout = row_layout(batch, **options)
    return replace(layout, position_ids=layout.position_ids + 1)


def _without_mask(batch: Any, **options: Any) -> Any:
    return replace(tree_layout(batch, **options), mask=None)


class _WiderWindow(PrefixAttention):
    """A prefix whose layers see one token too many."""

    def __init__(self, model: Any, ids: list[int]) -> None:
        super().__init__(model, ids)
        self._windows = [seen and replace(seen, size=seen.size + 1) for seen in self._windows]


def tabulate_times(record: dict[str, Any]) -> Table:
    """Return one row for each model."""
    rows = []
    for case in record["cases"]:
        found = case["times"]
        rows.append(
            [
                *(case["model"], case["dtype"], str(found["n_tokens"])),
                *(number(found[name]) for name in ("checks", "prefix")),
                f"{found['checks'] / found['prefix']:.0%}",
                *(number(found[name]) for name in ("text", "text_auto", "fit_auto")),
            ]
        )
    header = ["model", "type", "shared tokens", "checks", "prefix", "checks over prefix"]
    header += ["a text", "a text, calibrated", "fit, calibrated"]
    return Table("The first prediction with 16 shots, CPU seconds", header, rows)


def tabulate_sums(record: dict[str, Any]) -> Table:
    """Return one row for each model and length of texts."""
    rows = [
        [
            case["model"],
            texts,
            *(number(1000 * found[name]) for name in ("likelihoods", "probabilities")),
            f"{number(found['likelihoods'] / found['probabilities'])}{TIMES}",
        ]
        for case in record["cases"]
        for texts, found in case["sums"].items()
    ]
    header = ["model", "texts", "likelihoods, ms a text", "probabilities alone", "speed-up"]
    return Table("What the sum over the vocabulary costs, CPU milliseconds", header, rows)


def tabulate_effects(record: dict[str, Any]) -> Table:
    """Return the least and the largest effect of each kind."""
    rows = []
    for case in record["cases"]:
        kinds = {(e["what"], e["limits"]): [] for e in case["effects"]}
        for effect in case["effects"]:
            kinds[effect["what"], effect["limits"]].append(effect["effect"])
        for (what, limits), effects in kinds.items():
            where = "beyond a window" if limits else "below limits"
            rows.append([case["model"], what, where, number(min(effects)), number(max(effects))])
    return Table(
        "Effects in units of one more rounding in each layer",
        ["model", "what", "prompts", "least", "largest"],
        rows,
        [f"A shortcut is taken up to {checks._N_ROUNDINGS}. Mistakes are of one token."],  # noqa: SLF001
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="default: gemma3 and smollm2")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16"))
    parser.add_argument("--texts", type=int, default=41)
    parser.add_argument("--prompts", type=int, default=4, help="for the second table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the tables again")
    arguments = parser.parse_args()
    arguments.model = arguments.model or ["gemma3", "smollm2"]
    return arguments


if __name__ == "__main__":
    main()
