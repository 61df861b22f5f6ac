"""Raw data → clean texts, without those that share words with an evaluation text."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LOG = logging.getLogger(__name__)
LABELLED = ("imdb", "mr", "sst5", "yelp5", "clinc150", "dbpedia14")
PRODUCTS, FILMS = "fdu_unlabelled_tokenised", "imdb_unsup"
"""Sources of unlabelled reviews."""
POLARITY = {
    "neg": 0,
    "negative": 0,
    "very negative": 0,
    "pos": 1,
    "positive": 1,
    "very positive": 1,
}
RUN = 13
"""A training text overlaps with an evaluation text if they share so many words in a row."""
SHORTEST = 6
"""Texts of fewer words are never dropped; those of fewer than `RUN` count as one run."""
_JOINS = (
    (re.compile(r"\s+([.,!?;:)%])"), r"\1"),
    (re.compile(r"([(])\s+"), r"\1"),
    (re.compile(r"\s+(n't|'s|'m|'re|'ve|'ll|'d)\b"), r"\1"),
    (re.compile(r'"\s+([^"]*?)\s+"'), r'"\1"'),
)
_START = re.compile(r"(^|[.!?]\s+)([a-z])")
_PRONOUN = re.compile(r"\bi\b")
_WORD = re.compile(r"[a-z0-9]+")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file, gzipped or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def read_labelled(data: Path, name: str) -> list[tuple[str, str]]:
    """Return the cleaned texts and the labels of one of the `LABELLED` sets."""
    rows = read_rows(data / "labelled" / f"{name}.jsonl.gz")
    return [(clean(row["text"]), row["label"]) for row in rows]


def read_polar(data: Path, name: str) -> list[tuple[str, int]]:
    """Return the texts of a review set with a clear sentiment: 0 negative, 1 positive."""
    rows = read_labelled(data, name)
    return [(text, POLARITY[label]) for text, label in rows if label in POLARITY]


def read_texts(data: Path) -> dict[str, list[str]]:
    """Return the cleaned unlabelled texts by source."""
    texts: dict[str, list[str]] = {}
    for row in read_rows(data / "text.jsonl.gz"):
        texts.setdefault(row["source"], []).append(clean(row["text"]))
    return texts


# Cleaning


def clean(text: str) -> str:
    """Undo escaped newlines, HTML breaks, doubled encoding and field names."""
    text = text.replace("\\n", "\n").replace('\\"', '"').replace('""', '"')
    text = re.sub(r"<br\s*/?>", "\n", text)
    if "Ã" in text:
        with contextlib.suppress(UnicodeError):
            text = text.encode("latin-1").decode("utf-8")
    text = re.sub(r"^Title:\s*(.*?)\s*\nText:\s*", r"\1: ", text)
    text = re.sub(r"^Text:\s*", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def is_tokenised(text: str) -> bool:
    """Say whether a text is in lower case, with spaces around its punctuation."""
    return " ." in text and text == text.lower()


def detokenise(text: str) -> str:
    """Rejoin the punctuation and capitalise the sentences of tokenised lower-case text."""
    for pattern, replacement in _JOINS:
        text = pattern.sub(replacement, text)
    text = _START.sub(lambda match: match[1] + match[2].upper(), text)
    return _PRONOUN.sub("I", text)


# Overlap with evaluation texts


def word_runs(text: str) -> set[int]:
    """Return a hash of every run of words, regardless of case, apostrophes and spacing.

    Hashes differ between processes unless ``PYTHONHASHSEED`` is set.
    """
    text = text.lower().replace(" n't", "nt").replace(" '", "").replace("'", "")
    words = _WORD.findall(text)
    if len(words) < RUN:
        return {hash(tuple(words))} if len(words) >= SHORTEST else set()
    return {hash(tuple(words[i : i + RUN])) for i in range(len(words) - RUN + 1)}


def evaluation_runs(files: Iterable[Path]) -> set[int]:
    """Return the runs of words of evaluation files."""
    runs: set[int] = set()
    for file in files:
        for row in read_rows(file):
            runs |= word_runs(row["text"])
    return runs


def without_overlap(texts: list[str], runs: set[int]) -> list[bool]:
    """Return for each training text whether it shares no run of words."""
    return [runs.isdisjoint(word_runs(text)) for text in texts]


def count_overlaps(data: Path, files: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Count the texts of each source, ``rows``, and those that overlap with each file."""
    runs = {f"{file.parent.name}/{file.name}": evaluation_runs([file]) for file in files}
    texts = read_texts(data)
    texts |= {name: [text for text, _ in read_labelled(data, name)] for name in LABELLED}
    prompts = read_rows(data / "instructions.jsonl.gz")
    texts["instructions"] = [row["prompt"] for row in prompts]
    found = {}
    for source, members in texts.items():
        hashed = [word_runs(text) for text in members]
        counts = {
            name: sum(not of_text.isdisjoint(of_file) for of_text in hashed)
            for name, of_file in runs.items()
        }
        found[source] = {"rows": len(members), **counts}
        LOG.info("%s: %s", source, found[source])
    return found
