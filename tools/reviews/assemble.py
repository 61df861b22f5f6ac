"""Written reviews → the bundled review set: check, identify, split, sort.

    python tools/reviews/assemble.py PART.jsonl ... --output src/instructclf/datasets/reviews.jsonl

Each input row has ``product``, ``label`` and ``text``. An identifier depends only on the text, and
the split only on the rows of the same product and label, so changing a few reviews does not move
the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

LABELS = ("negative", "positive")
MIN_ROWS = {"train": 200, "test": 250}
MIN_WORDS_SHARED = 4


def main() -> None:
    """Assemble the parts on the command line."""
    parser = argparse.ArgumentParser(description="Assemble the review set from its parts.")
    parser.add_argument("parts", nargs="+", type=Path, help="files of reviews, JSON lines")
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    parser.add_argument("--seed", type=int, default=0, help="controls the split")
    parser.add_argument(
        "--decisions", type=Path, help="rows of id and label (or 'drop') after the second reading"
    )
    arguments = parser.parse_args()
    reviews = decide(identify(read(arguments.parts)), arguments.decisions)
    problems = find_problems(reviews)
    if problems:
        sys.exit("\n".join(problems))
    split(reviews, arguments.seed)
    n_rows = {name: sum(review["split"] == name for review in reviews) for name in MIN_ROWS}
    if any(n_rows[name] < MIN_ROWS[name] for name in MIN_ROWS):
        sys.exit(f"Too few reviews: {n_rows}, expected at least {MIN_ROWS}.")
    columns = ("id", "split", "product", "label", "text")
    write(arguments.output, [{column: review[column] for column in columns} for review in reviews])
    sys.stdout.write(f"{arguments.output}: {n_rows}\n")


def read(paths: list[Path]) -> list[dict[str, str]]:
    """Return the rows of all files."""
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines if line.strip()]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as JSON lines."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def identify(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Give each review an identifier computed from its text, and sort by it."""
    reviews = [{**row, "text": row["text"].strip()} for row in rows]
    for review in reviews:
        review["id"] = f"review-{_digest(_normalise(review['text']))[:8]}"
    return sorted(reviews, key=lambda review: review["id"])


def decide(reviews: list[dict[str, str]], path: Path | None) -> list[dict[str, str]]:
    """Change labels and drop reviews as decided after the second reading."""
    decisions = {row["id"]: row["label"] for row in read([path])} if path else {}
    unknown = decisions.keys() - {review["id"] for review in reviews}
    if unknown:
        sys.exit(f"Decisions on unknown reviews: {', '.join(sorted(unknown))}.")
    decided = [{**row, "label": decisions.get(row["id"], row["label"])} for row in reviews]
    return [review for review in decided if review["label"] != "drop"]


def find_problems(reviews: list[dict[str, str]]) -> list[str]:
    """Describe unknown labels, equal reviews, and sentences that two reviews share."""
    problems = [
        f"{review['id']}: label {review['label']!r} is not one of {LABELS}."
        for review in reviews
        if review["label"] not in LABELS
    ]
    owners: dict[str, set[str]] = defaultdict(set)
    for position, review in enumerate(reviews):
        text = _normalise(review["text"])
        sentences = re.split(r"(?<=[.!?:;])\s+", review["text"])
        long = [s for s in map(_normalise, sentences) if len(s.split()) >= MIN_WORDS_SHARED]
        for sentence in {text, *long}:
            owners[sentence].add(f"{review['id']} ({position})")
    problems += [
        f"{' and '.join(sorted(names))} share {sentence!r}."
        for sentence, names in owners.items()
        if len(names) > 1
    ]
    return problems


def split(reviews: list[dict[str, str]], seed: int) -> None:
    """Assign every second review of each product and label to training, in a seeded order."""
    cells: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for review in reviews:
        cells[review["product"], review["label"]].append(review)
    for cell in cells.values():
        cell.sort(key=lambda review: _digest(f"{seed}:{review['id']}"))
        for position, review in enumerate(cell):
            review["split"] = ("test", "train")[position % 2]


def _normalise(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
