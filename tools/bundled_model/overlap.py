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


def count_overlaps(
    texts: dict[str, list[str]], runs: dict[str, set[int]]
) -> dict[str, dict[str, int]]:
    """Count the training texts that share a run of words with each evaluation set.

    Parameters
    ----------
    texts : dict
        Training texts by source.
    runs : dict
        The hashes of each evaluation set.

    Returns
    -------
    dict
        For each source the number of its texts, ``rows``, and how many of them overlap with each
        set.
    """
    found = {}
    for source, members in texts.items():
        hashed = [word_runs(text) for text in members]
        counts = {
            name: sum(not own.isdisjoint(those) for own in hashed) for name, those in runs.items()
        }
        found[source] = {"rows": len(members), **counts}
        LOG.info("%s: %s", source, found[source])
    return found


def main() -> None:
    """Write how many texts of each source overlap with each evaluation file, as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--against", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    runs = {f"{file.parent.name}/{file.name}": evaluation_runs([file]) for file in options.against}
    texts = read_texts(options.data)
    texts |= {name: [text for text, _ in read_labelled(options.data, name)] for name in LABELLED}
    rows = read_rows(options.data / "instructions.jsonl.gz")
    texts["instructions"] = [row["prompt"] for row in rows]
    found = count_overlaps(texts, runs)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
