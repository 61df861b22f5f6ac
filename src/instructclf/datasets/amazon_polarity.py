"""Amazon Polarity → texts and labels: from a folder of split files, or from the hub.

Zhang, Zhao and LeCun, "Character-level Convolutional Networks for Text Classification" (2015):
reviews with one or two stars are negative, with four or five positive; three stars are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from instructclf.datasets.extras import import_data_extra
from instructclf.datasets.labelled import LabelledTexts, read_labelled
from instructclf.datasets.rows import ENDINGS
from instructclf.exceptions import DataFormatError
from instructclf.inputs.paths import expand

HUB_NAMES = {
    "amazon_polarity": "fancyzhx/amazon_polarity",
    "fancyzhx/amazon_polarity": "fancyzhx/amazon_polarity",
}
"""Accepted names of the hub's data set, with its full name there."""

SPLITS = ("train", "validation", "test")
_HUB_LABELS = ("negative", "positive")


def load_amazon_polarity(
    source: str | os.PathLike[str] = "amazon_polarity",
    split: str = "train",
    *,
    n_rows: int | None = None,
    random_state: int = 0,
) -> LabelledTexts:
    """Load reviews labelled negative or positive.

    Parameters
    ----------
    source : str or path-like, default="amazon_polarity"
        A folder with one file per split, such as ``train.jsonl.gz`` and ``test.jsonl.gz``, with the
        columns ``text`` and ``label``; or ``"amazon_polarity"``, the data set on the hub, which
        needs the ``data`` extra and a network or a cached copy. A folder with that name takes
        precedence.
    split : {"train", "validation", "test"}, default="train"
        The split to load. The hub has no ``"validation"``.
    n_rows : int or None, default=None
        How many rows to draw at random; they keep their order. ``None`` takes all: 3,600,000 in
        the hub's ``"train"`` and 400,000 in its ``"test"``.
    random_state : int, default=0
        Controls which rows are drawn.

    Returns
    -------
    LabelledTexts
        The reviews, each with its title in front, and their labels.

    Raises
    ------
    DataFormatError
        If the source is neither a folder nor the name on the hub, the split does not exist, or
        there are fewer rows than ``n_rows``.
    MissingExtraError
        If the source is on the hub and ``datasets`` is not installed.
    """
    if split not in SPLITS:
        known = ", ".join(repr(name) for name in SPLITS)
        msg = f"The 'split' parameter must be one of {known}. Got {split!r} instead."
        raise DataFormatError(msg)
    if expand(source).is_dir():
        rows = read_labelled(_find_split(expand(source), split))
        chosen = _draw(len(rows), n_rows, random_state)
        return LabelledTexts(
            [rows.texts[i] for i in chosen.tolist()], [rows.labels[i] for i in chosen.tolist()]
        )
    if str(source) not in HUB_NAMES:
        msg = f"{str(source)!r} is neither a folder nor {min(HUB_NAMES)!r}, the name on the hub."
        raise DataFormatError(msg)
    return _from_hub(_open_hub_split(HUB_NAMES[str(source)], split), n_rows, random_state)


def _find_split(folder: Path, split: str) -> Path:
    """Return the file of a split, with any of the known endings."""
    for ending in ENDINGS:
        path = folder / f"{split}{ending}"
        if path.is_file():
            return path
    names = ", ".join(sorted(path.name for path in folder.iterdir())) or "no files"
    msg = f"{folder} has no file {split}{{{','.join(ENDINGS)}}}. It has: {names}."
    raise DataFormatError(msg)


def _open_hub_split(name: str, split: str) -> Any:
    """Load a split with ``datasets``; the name may also be a folder."""
    datasets = import_data_extra("datasets", needed_for=f"Reading {name} from the hub")
    try:
        return datasets.load_dataset(name, split=split)
    except ValueError as error:
        msg = f"Split {split!r} of {name} cannot be loaded: {error}"
        raise DataFormatError(msg) from error
    except OSError as error:
        error.add_note("Without a network, give a folder with one file per split.")
        raise


def _from_hub(rows: Any, n_rows: int | None, random_state: int) -> LabelledTexts:
    """Join title and content and name the labels, copying no more rows than necessary."""
    missing = {"title", "content", "label"}.difference(rows.column_names)
    if missing:
        msg = f"The data set has no column {min(missing)!r}. The columns are {rows.column_names}."
        raise DataFormatError(msg)
    if n_rows is not None:
        rows = rows.select(_draw(len(rows), n_rows, random_state))
    texts = _join(rows["title"], rows["content"])
    return LabelledTexts(texts, [_HUB_LABELS[label] for label in rows["label"]])


def _join(titles: Iterable[str], contents: Iterable[str]) -> list[str]:
    pairs = zip(titles, contents, strict=True)
    return [f"{title}: {content}" if title else content for title, content in pairs]


def _draw(n_available: int, n_rows: int | None, random_state: int) -> np.ndarray:
    """Return the sorted indices of the rows to take."""
    if n_rows is None:
        return np.arange(n_available)
    if not 1 <= n_rows <= n_available:
        msg = f"n_rows={n_rows} is not between 1 and {n_available}, the number of rows."
        raise DataFormatError(msg)
    rng = np.random.default_rng(random_state)
    return np.sort(rng.choice(n_available, size=n_rows, replace=False))
