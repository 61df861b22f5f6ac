"""Write the rows held out of training as evaluation files."""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
from overlap import word_runs
from sources import read_rows, read_texts
from units import PRODUCTS, read_polar, split_held_out
from windows import cut_window

SETS = ("yelp5", "imdb", "mr", "sst5")
WORDS = 90
NAMES = ("negative", "positive")


def write_held_out(data: Path, out: Path) -> None:
    """Write one file a set, long reviews cut to about 90 words.

    Parameters
    ----------
    data : pathlib.Path
        The folder of the raw data.
    out : pathlib.Path
        The folder to write to.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        rng = np.random.default_rng(11)
        rows = split_held_out(read_polar(data, name))[1]
        with gzip.open(out / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for text, label in rows:
                row = {"text": cut_window(text, WORDS, rng), "label": NAMES[label]}
                file.write(json.dumps(row) + "\n")


def write_apart(data: Path, rows: Path, out: Path) -> None:
    """Write the rows of a file that share no run of words with an unlabelled product review.

    The training rows of a task come from where product reviews come from, and some are the same.

    Parameters
    ----------
    data : pathlib.Path
        The folder of the raw data.
    rows : pathlib.Path
        The file of labelled rows.
    out : pathlib.Path
        The folder to write to.
    """
    runs = set().union(*map(word_runs, read_texts(data)[PRODUCTS]))
    kept = [row for row in read_rows(rows) if runs.isdisjoint(word_runs(row["text"]))]
    with gzip.open(out / "apart.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in kept)


def main() -> None:
    """Write the held-out rows."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=Path, help="write those of its rows that are apart, too")
    options = parser.parse_args()
    write_held_out(options.data, options.out)
    if options.rows:
        write_apart(options.data, options.rows, options.out)


if __name__ == "__main__":
    main()
