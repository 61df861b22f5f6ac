"""Accuracy of the samplers: the same classifier and seeds, other rows shown in the prompt.

    python benchmarks/samplers.py                                    # the review set that ships
    python benchmarks/samplers.py --task sst2=train.jsonl.gz,test.jsonl.gz --n-test 200

Each sampler draws shots for the same seeds; accuracy is taken on the same rows of the test split,
the first ones of an order drawn once. The difference to balanced sampling is paired by seed. Writes
``results/samplers.json`` with every score, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from instructclf import PromptClassifier
from instructclf.datasets import LabelledTexts, load_reviews, read_labelled
from instructclf.sampling import (
    BalancedSampler,
    FacilityLocationSampler,
    KMeansSampler,
    RandomSampler,
    UncertaintySampler,
    VoteKSampler,
)

OUT = Path(__file__).with_name("results") / "samplers.json"
REVIEWS = "reviews"


class ZeroShotUncertaintySampler:
    """Uncertainty sampling that fits the zero-shot classifier it asks by itself."""

    def __init__(self, classifier: PromptClassifier, prefer: str) -> None:
        self.classifier, self.prefer = classifier, prefer

    def select(self, X: Any, y: Any, n_shots: int, *, random_state: Any = None) -> Any:
        zero_shot = self.classifier.set_params(random_state=random_state).fit(X, y)
        return UncertaintySampler(prefer=self.prefer).select(
            X, y, n_shots, random_state=random_state, predict_proba=zero_shot.predict_proba
        )


def make_samplers(n_shots: int, n_classes: int, options: dict[str, Any]) -> dict[str, Any]:
    """Return the samplers compared, balanced first: the others are compared with it."""
    zero_shot = PromptClassifier(n_shots=0, **options)
    return {
        "balanced": BalancedSampler(),
        "random": RandomSampler(),
        "k-means": KMeansSampler(n_clusters=max(1, n_shots // n_classes)),
        "facility location": FacilityLocationSampler(),
        "vote-k": VoteKSampler(),
        "uncertainty": ZeroShotUncertaintySampler(zero_shot, "uncertain"),
        "certainty": ZeroShotUncertaintySampler(zero_shot, "certain"),
    }


def read_task(given: str) -> tuple[str, LabelledTexts, LabelledTexts]:
    """Return name, train and test of ``reviews`` or ``name=train,test``."""
    if given == REVIEWS:
        return given, load_reviews("train"), load_reviews("test")
    name, _, paths = given.partition("=")
    train, test = paths.split(",")
    return name, read_labelled(train), read_labelled(test)


def measure(given: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row for each seed and sampler."""
    name, train, test = read_task(given)
    rows = np.random.RandomState(0).permutation(len(test))[: arguments.n_test]
    texts, labels = [test.texts[i] for i in rows], [test.labels[i] for i in rows]
    options = {"calibration": None if arguments.calibration == "none" else "auto"}
    samplers = make_samplers(arguments.n_shots, len(set(train.labels)), options)
    for seed in range(arguments.n_seeds):
        for sampler in arguments.sampler or samplers:
            classifier = PromptClassifier(
                n_shots=arguments.n_shots,
                sampler=samplers[sampler],
                random_state=seed,
                **options,
            )
            started = time.process_time()
            classifier.fit(train.texts, train.labels)
            score = classifier.score(texts, labels)
            row = {
                "task": name,
                "sampler": sampler,
                "seed": seed,
                "n_shots": arguments.n_shots,
                "n_test": len(texts),
                "calibration": arguments.calibration,
                "accuracy": score,
                "cpu_s": time.process_time() - started,
                "shots": classifier.shots_.tolist(),
            }
            print(f"# {name} {sampler} {seed}: {score:.3f}, {row['cpu_s']:.0f} s", flush=True)
            yield row


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table: mean accuracy, its spread over seeds, difference to balanced."""
    lines = ["| task | sampler | accuracy | sd over seeds | to balanced |", "|---|---|---|---|---|"]
    for task, sampler in dict.fromkeys((row["task"], row["sampler"]) for row in rows):
        own = {
            r["seed"]: r["accuracy"] for r in rows if (r["task"], r["sampler"]) == (task, sampler)
        }
        base = {
            r["seed"]: r["accuracy"]
            for r in rows
            if (r["task"], r["sampler"]) == (task, "balanced")
        }
        differences = [100 * (own[seed] - base[seed]) for seed in own.keys() & base.keys()]
        lines.append(
            f"| {task} | {sampler} | {100 * statistics.mean(own.values()):.1f} | "
            f"{100 * _deviation(list(own.values())):.1f} | {_describe(sampler, differences)} |"
        )
    return "\n".join(lines)


def _describe(sampler: str, differences: list[float]) -> str:
    if sampler == "balanced" or not differences:
        return ""
    error = _deviation(differences) / len(differences) ** 0.5
    return f"{statistics.mean(differences):+.1f} ± {error:.1f}"


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", action="append", help="reviews, or name=train,test (files)")
    parser.add_argument("--sampler", action="append", help="only these (balanced, random, …)")
    parser.add_argument("--n-shots", type=int, default=16)
    parser.add_argument("--n-seeds", type=int, default=5)
    parser.add_argument("--n-test", type=int, default=200)
    parser.add_argument("--calibration", choices=["auto", "none"], default="auto")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    rows = []
    for task in arguments.task or [REVIEWS]:
        for row in measure(task, arguments):
            rows.append(row)
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(tabulate(rows))


if __name__ == "__main__":
    main()
