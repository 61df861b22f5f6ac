"""The reference experiment: how good is a language model that has seen sixteen reviews?

    python examples/sentiment.py

compares a linear classifier, prompting and instruction tuning on product reviews and prints a
table. All learn from the same few reviews, and the linear classifier also from all of them. The
program needs no network: the model and the reviews ship with the package. On other data, and with
another model:

    python examples/sentiment.py --data FOLDER --model FOLDER_OR_HUB_NAME --seeds 5

FOLDER holds two files, ``train`` and ``test`` (.jsonl, .jsonl.gz, .csv or .parquet), with the
columns ``text`` and ``label``. The labels are "negative" and "positive". A single file in place of
FOLDER is split in two. ``--data amazon_polarity`` reads the data set from the hub.
"""

import argparse
import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import resample

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.datasets import LabelledTexts, load_amazon_polarity, load_reviews, read_labelled
from instructclf.evaluation import compare
from instructclf.exceptions import InstructClfError

LABEL_DEFINITIONS = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
REFERENCE_SIZES = {"train": 32_000, "test": 4_000}


def main() -> None:
    arguments = parse_arguments()
    train, test = load_data(arguments.data, arguments.seed)
    test = take(test, arguments.test_size or REFERENCE_SIZES["test"], arguments.seed)
    print(f"{len(train):,} training and {len(test):,} test reviews; model: {arguments.model}\n")

    tfidf = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC())
    model = {"model": arguments.model, "label_definitions": LABEL_DEFINITIONS}
    k = arguments.shots
    # approach: (estimator, shots, seeds); what draws nothing at random needs one seed only
    approaches = {
        "TF-IDF + LinearSVC, all rows": (tfidf, None, 1),
        "TF-IDF + LinearSVC": (tfidf, k, arguments.seeds),
        "prompting, no shots": (PromptClassifier(**model, n_shots=0, calibration=None), 0, 1),
        "prompting": (PromptClassifier(**model, n_shots=k), k, arguments.seeds),
        "instruction tuning": (InstructionTunedClassifier(**model), k, arguments.seeds),
    }
    report = compare(
        {name: estimator for name, (estimator, _, _) in approaches.items()},
        train.texts,
        train.labels,
        test.texts,
        test.labels,
        n_shots={name: n_shots for name, (_, n_shots, _) in approaches.items()},
        n_seeds={name: n_seeds for name, (_, _, n_seeds) in approaches.items()},
        random_state=arguments.seed,
        verbose=1,
    )
    print(report.to_markdown())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="reviews", help="reviews (bundled), amazon_polarity, a folder or a file"
    )
    parser.add_argument("--model", default="bundled", help="bundled, a folder or a hub name")
    parser.add_argument("--shots", type=int, default=16, help="training rows of each classifier")
    parser.add_argument("--seeds", type=int, default=3, help="how many draws of training rows")
    parser.add_argument("--test-size", type=int, help="test rows (default: all, at most 4,000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is random")
    return parser.parse_args()


def load_data(source: str, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
    """Return training and test rows of whatever ``--data`` names."""
    if source == "reviews":
        return load_reviews("train"), load_reviews("test")
    if Path(source).is_file():
        everything = read_labelled(source)
        n_test = min(REFERENCE_SIZES["test"], len(everything) // 2)
        return split(everything, n_test, seed)
    is_folder = Path(source).is_dir()
    train, test = (
        load_amazon_polarity(source, name, n_rows=None if is_folder else n_rows, random_state=seed)
        for name, n_rows in REFERENCE_SIZES.items()
    )
    return train, test


def split(rows: LabelledTexts, n_test: int, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
    """Return two parts with the same mix of labels."""
    texts, test_texts, labels, test_labels = train_test_split(
        rows.texts, rows.labels, test_size=n_test, stratify=rows.labels, random_state=seed
    )
    return LabelledTexts(texts, labels), LabelledTexts(test_texts, test_labels)


def take(rows: LabelledTexts, n_rows: int, seed: int) -> LabelledTexts:
    """Return this many rows with the same mix of labels, or all if there are no more."""
    if n_rows >= len(rows):
        return rows
    drawn = {"n_samples": n_rows, "stratify": rows.labels, "random_state": seed}
    return LabelledTexts(*resample(rows.texts, rows.labels, replace=False, **drawn))


if __name__ == "__main__":
    try:
        main()
    except (InstructClfError, OSError) as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", [])]))
