"""How often the bundled model gives in to texts that ask for another label.

python benchmarks/injection.py                        # prints, and writes results/injection.*
python benchmarks/injection.py --n-test 40 --seeds 1  # less of it
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from measuring import RESULTS, Settings, environment
from tables import Table, page, save_page, save_record

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.datasets import load_reviews
from instructclf.evaluation import injection_report

DEFINITIONS = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}


def make_classifiers(model: str, n_shots: int) -> dict[str, Any]:
    """Return the approaches that are compared."""
    options = {"label_definitions": DEFINITIONS, "n_shots": n_shots}
    return {
        "prompting": PromptClassifier(model, **options),
        "tuning": InstructionTunedClassifier(model, **options),
    }


def measure(classifiers: dict[str, Any], *, n_seeds: int, n_test: int) -> dict[str, list[Any]]:
    """Return the rows of each approach's report, under each seed."""
    train, test = load_reviews("train"), load_reviews("test")
    rows = np.random.default_rng(0).permutation(len(test.texts))[:n_test].tolist()
    texts, labels = [test.texts[i] for i in rows], [test.labels[i] for i in rows]
    reports: dict[str, list[Any]] = {}
    for name, classifier in classifiers.items():
        for seed in range(n_seeds):
            fitted = classifier.set_params(random_state=seed).fit(train.texts, train.labels)
            report = injection_report(fitted, texts, labels)
            reports.setdefault(name, []).append(report.to_rows())
            print(f"{name}, seed {seed}: {report.clean_accuracy:.3f} clean, ", end="", flush=True)
            print(f"{report.attacked_accuracy:.3f} attacked", flush=True)
    return reports


def tabulate(record: dict[str, Any]) -> Table:
    """Return means over the seeds: accuracy, and how often the attacked label won."""
    reports = record["reports"]
    n_seeds = len(next(iter(reports.values())))
    attacks = [row["attack"] for row in next(iter(reports.values()))[0]]
    means = np.stack([_means(of_seeds) for of_seeds in reports.values()], axis=1)
    rows = [(name, *map(_cell, mean)) for name, mean in zip(attacks, means, strict=True)]
    rows.append(("**mean of attacks**", *map(_cell, means[1:].mean(axis=0))))
    note = (
        "Accuracy, and in parentheses the share of texts that got the label they asked for. "
        f"{record['n_test']} of the reviews, {n_seeds} seeds."
    )
    return Table("Texts that ask for another label", ("attack", *reports), rows, (note,))


def _means(reports: list[list[dict[str, Any]]]) -> np.ndarray:
    """Return accuracy and share won of each attack, of shape (n_attacks, 2)."""
    return np.mean([[(row["accuracy"], row["won"]) for row in rows] for rows in reports], axis=0)


def _cell(mean: np.ndarray) -> str:
    return f"{mean[0]:.2f} ({mean[1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-test", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    classifiers = make_classifiers(options.model, options.shots)
    reports = measure(classifiers, n_seeds=options.seeds, n_test=options.n_test)
    where = environment(Settings(rounds=options.seeds))
    record = {"environment": where, "n_test": options.n_test, "reports": reports}
    save_record(record, "injection", options.out)
    text = page(record, [tabulate(record)])
    save_page(text, "injection", options.out)
    print(text)


if __name__ == "__main__":
    main()
