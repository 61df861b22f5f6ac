"""Measure what half precision costs and saves on real models: time, memory and changed scores.

    python benchmarks/precision.py                    both real models
    python benchmarks/precision.py --model smollm2 --texts 16
    python benchmarks/precision.py --table            the table from the existing JSON

``--model`` takes ``gemma3``, ``smollm2``, a GGUF file or a folder. The prompt has 16 shots of two
reviews each, some 1,850 tokens. Each precision runs in a process of its own. *transformers* is the
model's own forward pass over each full prompt in bfloat16, whose scores are compared with the same
float32 scores. Measurements go into ``results/precision.json``, and the table into
``results/precision.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from first_prediction import N_SHOTS, make_classifier
from measuring import RESULTS, Settings, environment, run_fresh, set_threads, timed
from models import find_model
from tables import Table, load_record, number, page, save_page, save_record, times
from texts import SHOT, TEXT, TWO_LABELS, paired_reviews

KINDS = ("float32", "bfloat16", "transformers, bfloat16")


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=1, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    if not arguments.table:
        options = {"n_texts": arguments.texts, "threads": settings.threads}
        cases = [
            {"model": model, "kind": kind}
            | run_fresh("precision:measure", path=find_model(model), kind=kind, **options)
            for model in arguments.model
            for kind in KINDS
        ]
        record = {"environment": environment(settings), "cases": cases}
        save_record(record, "precision", settings.out)
    record = load_record("precision", settings.out)
    text = page(record, [tabulate(record)])
    print(text, flush=True)
    save_page(text, "precision", settings.out)


def measure(*, path: str, kind: str, n_texts: int, threads: int) -> dict[str, Any]:
    """Time the texts, and return the scores of all labels."""
    set_threads(threads)
    dtype = kind.rpartition(" ")[2]
    classifier = make_classifier(path, dtype, None)
    tokenizer = classifier.open_model().base.tokenizer
    shots = paired_reviews(tokenizer, SHOT, N_SHOTS, TWO_LABELS, split="train", seed=0)
    texts = paired_reviews(tokenizer, TEXT, n_texts, TWO_LABELS, seed=1).texts
    classifier.fit(shots.texts, shots.labels)
    if kind != dtype:
        scores, time = timed(lambda: score_full_prompts(classifier, texts))
        seconds = time.cpu_s / n_texts
    else:
        classifier.predict(texts[:2])  # checks shortcuts and computes the prefix
        found = [timed(lambda: classifier.label_log_likelihood(texts)) for _ in range(3)]
        scores, seconds = found[0][0], min(time.cpu_s for _, time in found) / n_texts
    peak = psutil.Process().memory_full_info()
    return {
        "text": seconds,
        "scores": np.asarray(scores).tolist(),
        "resident_mib": peak.rss / 2**20,
        "private_mib": peak.uss / 2**20,
    }


@torch.inference_mode()
def score_full_prompts(classifier: Any, texts: list[str]) -> list[list[float]]:
    """Return the scores from forward passes of transformers, one for each text and label."""
    scorer = classifier.labeller_.scorer(classifier.open_model)
    model, found = classifier.open_model().base.model, []
    for prompt in scorer.encoder.encode(texts):
        sums = [0.0, 0.0]
        for label, score in enumerate(sums):
            tokens = [token for of, _, token in prompt.trie.edges if of == label]
            ids = torch.tensor([[*prompt.ids, *tokens[:-1]]])
            logits = model(ids, use_cache=False, logits_to_keep=len(tokens)).logits[0]
            steps = logits.float().log_softmax(dim=-1)
            sums[label] = score + steps[range(len(tokens)), tokens].sum().item()
        found.append(sums)
    return found


def tabulate(record: dict[str, Any]) -> Table:
    """Return one row for each model and precision."""
    rows, exact = [], {}
    for case in record["cases"]:
        scores = np.array(case["scores"])
        reference = exact.setdefault(case["model"], (scores, case["text"]))
        changes = np.abs(scores - reference[0])
        flips = (scores.argmax(axis=1) != reference[0].argmax(axis=1)).sum()
        rows.append(
            [
                *(case["model"], case["kind"], number(case["text"])),
                times(reference[1] / case["text"]),
                *(f"{change:.3f}" if change else "" for change in (changes.max(), changes.mean())),
                f"{flips} of {len(scores)}",
                *(number(case[name]) for name in ("resident_mib", "private_mib")),
            ]
        )
    header = ["model", "precision", "CPU s a text", "speed-up over float32"]
    header += ["largest change of log p", "mean change", "changed predictions"]
    header += ["resident, MiB", "of its own, MiB"]
    return Table("Precision on a CPU, 16 shots, two labels", header, rows)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="default: gemma3 and smollm2")
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the table again")
    arguments = parser.parse_args()
    arguments.model = arguments.model or ["gemma3", "smollm2"]
    return arguments


if __name__ == "__main__":
    main()
