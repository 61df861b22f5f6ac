"""The bundled model on texts that ask for another label, tuned with such texts and without.

python benchmarks/injection.py                        # prints, and writes results/injection.*
python benchmarks/injection.py --n-test 40 --seeds 1  # less of it
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import instructclf
from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.datasets import load_reviews
from instructclf.evaluation import injection_report

RESULTS = Path(__file__).parent / "results"
DEFINITIONS = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}


def make_classifiers(model: str, n_shots: int, n_copies: int) -> dict[str, Any]:
    """Return the approaches that are compared."""
    same = {"label_definitions": DEFINITIONS, "n_shots": n_shots}
    return {
        "prompting": PromptClassifier(model, **same),
        "tuning": InstructionTunedClassifier(model, **same),
        f"tuning, adversarial_augment={n_copies}": InstructionTunedClassifier(
            model, adversarial_augment=n_copies, **same
        ),
    }


def measure(classifiers: dict[str, Any], *, n_seeds: int, n_test: int) -> dict[str, list[Any]]:
    """Return the rows of the report of each approach, under each seed."""
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


def write_table(reports: dict[str, list[Any]], n_test: int) -> str:
    """Return a table of means over the seeds: accuracy, and how often the attacked label won."""
    attacks = [row["attack"] for row in next(iter(reports.values()))[0]]
    lines = [
        "| attack | " + " | ".join(reports) + " |",
        "|---|" + "---:|" * len(reports),
    ]
    cells = {name: _means(own) for name, own in reports.items()}
    for position, attack in enumerate(attacks):
        own = [cells[name][position] for name in reports]
        lines.append(f"| {attack} | " + " | ".join(f"{a:.2f} ({w:.2f})" for a, w in own) + " |")
    mean = [cells[name][1:].mean(axis=0) for name in reports]
    lines.append(
        "| **mean of attacks** | " + " | ".join(f"{a:.2f} ({w:.2f})" for a, w in mean) + " |"
    )
    n_seeds = len(next(iter(reports.values())))
    lines += [
        "",
        f"Accuracy, and in parentheses the share of texts that got the label they asked for. "
        f"{n_test} of the reviews, {n_seeds} seeds.",
    ]
    return "\n".join(lines) + "\n"


def _means(reports: list[list[dict[str, Any]]]) -> np.ndarray:
    """Return accuracy and share won of each attack, of shape (n_attacks, 2)."""
    return np.mean([[[row["accuracy"], row["won"]] for row in own] for own in reports], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--copies", type=int, default=2, help="adversarial_augment")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-test", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    classifiers = make_classifiers(options.model, options.shots, options.copies)
    reports = measure(classifiers, n_seeds=options.seeds, n_test=options.n_test)
    table = write_table(reports, options.n_test)
    record = {
        "reports": reports,
        "options": {**vars(options), "out": None},
        "versions": {
            "instructclf": instructclf.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "injection.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.out / "injection.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
