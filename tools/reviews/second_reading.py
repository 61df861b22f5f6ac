"""A second reading of the reviews: hide the labels, read, compare.

    python tools/reviews/second_reading.py hide PART.jsonl ... --output blind.jsonl
    python tools/reviews/second_reading.py compare PART.jsonl ... --readings readings.jsonl

``hide`` writes id and text in shuffled order. The reader answers with rows of id and label:
positive, negative or unclear. ``compare`` counts and shows the reviews whose labels differ; the
decisions about them go to ``assemble.py --decisions``.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from assemble import identify, read, write


def main() -> None:
    """Hide the labels of the reviews, or compare them with a reading."""
    parser = argparse.ArgumentParser(description="Read the reviews a second time.")
    parser.add_argument("command", choices=["hide", "compare"])
    parser.add_argument("parts", nargs="+", type=Path, help="files of reviews, JSON lines")
    parser.add_argument("--output", type=Path, default=Path("blind.jsonl"), help="for hide")
    parser.add_argument("--readings", nargs="+", type=Path, help="for compare: rows of id, label")
    parser.add_argument("--seed", type=int, default=0, help="controls the order")
    arguments = parser.parse_args()
    reviews = identify(read(arguments.parts))
    if arguments.command == "hide":
        random.Random(arguments.seed).shuffle(reviews)
        write(arguments.output, [{"id": row["id"], "text": row["text"]} for row in reviews])
    else:
        compare(reviews, read(arguments.readings))


def compare(reviews: list[dict[str, str]], readings: list[dict[str, str]]) -> None:
    """Print how often the labels agree, and each review whose labels differ."""
    read_as = {row["id"]: row["label"] for row in readings}
    both = [review for review in reviews if review["id"] in read_as]
    differing = [review for review in both if review["label"] != read_as[review["id"]]]
    for review in differing:
        sys.stdout.write(
            f"{review['id']} written {review['label']}, read {read_as[review['id']]}: "
            f"{review['text']}\n\n"
        )
    n_agreed = len(both) - len(differing)
    sys.stdout.write(f"{len(both)} read of {len(reviews)}, {n_agreed} agreed\n")


if __name__ == "__main__":
    main()
