"""Find training texts that share a run of words with an evaluation text."""

from __future__ import annotations

import argparse
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sources import LABELLED, read_labelled, read_rows, read_texts

if TYPE_CHECKING:
    from collections.abc import Iterable

LOG = logging.getLogger(__name__)
RUN = 13
SHORTEST = 6
_WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words, blind to apostrophes and spacing.

    Parameters
    ----------
    text : str
        A text.

    Returns
    -------
    list of str
        Its words.
    """
    text = text.lower().replace(" n't", "nt").replace(" '", "").replace("'", "")
    return _WORD.findall(text)


def word_runs(text: str, run: int = RUN) -> set[int]:
    """Hash every run of words of a text.

    Parameters
    ----------
    text : str
        A text.
    run : int, default=13
        Words in a run; a shorter text of 6 words or more is one run.

    Returns
    -------
    set of int
        The hashes.
    """
    words = words_of(text)
    if len(words) < run:
        return {hash(tuple(words))} if len(words) >= SHORTEST else set()
    return {hash(tuple(words[i : i + run])) for i in range(len(words) - run + 1)}


def evaluation_runs(files: Iterable[Path]) -> set[int]:
    """Hash every run of words of the evaluation files.

    Parameters
    ----------
    files : iterable of pathlib.Path
        JSON-lines files with ``text``.

    Returns
    -------
    set of int
        The hashes.
    """
    runs: set[int] = set()
    for file in files:
        for row in read_rows(file):
            runs |= word_runs(row["text"])
    return runs


def drop_overlaps(texts: list[str], runs: set[int]) -> list[bool]:
    """Tell which texts to keep.

    Parameters
    ----------
    texts : list of str
        Training texts.
    runs : set of int
        The hashes of the evaluation texts.

    Returns
    -------
    list of bool
        ``False`` where a text shares a run with an evaluation text.
    """
    return [runs.isdisjoint(word_runs(text)) for text in texts]


def main() -> None:
    """Write how many texts of each source overlap, as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--against", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    runs = evaluation_runs(options.against)
    texts = read_texts(options.data)
    texts |= {name: [text for text, _ in read_labelled(options.data, name)] for name in LABELLED}
    rows = read_rows(options.data / "instructions.jsonl.gz")
    texts["instructions"] = [row["prompt"] for row in rows]
    found = {}
    for name, members in texts.items():
        kept = drop_overlaps(members, runs)
        found[name] = {"rows": len(kept), "overlapping": kept.count(False)}
        LOG.info("%s: %s", name, found[name])
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
