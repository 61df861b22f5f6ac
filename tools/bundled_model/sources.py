"""Read and clean the raw training texts."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELLED = ("imdb", "mr", "sst5", "yelp5", "clinc150", "dbpedia14")
POLARITY = {
    "neg": 0,
    "negative": 0,
    "very negative": 0,
    "pos": 1,
    "positive": 1,
    "very positive": 1,
}
LEVELS = ("very negative", "negative", "neutral", "positive", "very positive")
HELD_OUT = 500
_JOINS = (
    (re.compile(r"\s+([.,!?;:)%])"), r"\1"),
    (re.compile(r"([(])\s+"), r"\1"),
    (re.compile(r"\s+(n't|'s|'m|'re|'ve|'ll|'d)\b"), r"\1"),
    (re.compile(r'"\s+([^"]*?)\s+"'), r'"\1"'),
)
_START = re.compile(r"(^|[.!?]\s+)([a-z])")
_PRONOUN = re.compile(r"\bi\b")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file, gzipped or not.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Yields
    ------
    dict
        One record.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def clean(text: str) -> str:
    """Undo escaped newlines, HTML breaks, doubled encoding and field names.

    Parameters
    ----------
    text : str
        A raw text.

    Returns
    -------
    str
        The text on one or more tidy lines.
    """
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
    """Tell lower-cased text with spaces around its punctuation from natural text.

    Parameters
    ----------
    text : str
        A text.

    Returns
    -------
    bool
        Whether it looks tokenised.
    """
    return " ." in text and text == text.lower()


def detokenise(text: str) -> str:
    """Rejoin punctuation and capitalise sentences of tokenised lower-case text.

    Parameters
    ----------
    text : str
        Tokenised text.

    Returns
    -------
    str
        Text that reads as typed.
    """
    for pattern, replacement in _JOINS:
        text = pattern.sub(replacement, text)
    text = _START.sub(lambda match: match[1] + match[2].upper(), text)
    return _PRONOUN.sub("I", text)


def read_labelled(data: Path, name: str) -> list[tuple[str, str]]:
    """Read one labelled set.

    Parameters
    ----------
    data : pathlib.Path
        The folder with ``labelled/``.
    name : str
        One of `LABELLED`.

    Returns
    -------
    list of (str, str)
        Cleaned texts and their labels.
    """
    rows = read_rows(data / "labelled" / f"{name}.jsonl.gz")
    return [(clean(row["text"]), row["label"]) for row in rows]


def read_texts(data: Path) -> dict[str, list[str]]:
    """Read the unlabelled texts by source.

    Parameters
    ----------
    data : pathlib.Path
        The folder with ``text.jsonl.gz``.

    Returns
    -------
    dict
        Lists of cleaned texts.
    """
    texts: dict[str, list[str]] = {}
    for row in read_rows(data / "text.jsonl.gz"):
        texts.setdefault(row["source"], []).append(clean(row["text"]))
    return texts
