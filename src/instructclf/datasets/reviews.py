"""The bundled reviews → texts, labels and kinds of product.

The reviews were written for this project, not by customers; ``docs/reviews.md`` describes how.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from instructclf.datasets.labelled import LabelledTexts, take_text
from instructclf.datasets.rows import read_rows
from instructclf.exceptions import DataFormatError

_PATH = Path(__file__).with_name("reviews.jsonl")
_SPLITS = ("train", "test", "all")


@dataclass(frozen=True)
class Reviews(LabelledTexts):
    """Product reviews, their labels and the kinds of product.

    Parameters
    ----------
    texts : list of str
        The reviews.
    labels : list of str
        ``"negative"`` or ``"positive"`` for each.
    products : list of str
        The kind of product of each review.
    """

    products: list[str]


def load_reviews(split: str = "train") -> Reviews:
    """Load the product reviews that come with this package.

    They were written for this project, not by customers, to try a classifier on realistic texts
    without a download: short and long, with negation, mixed feelings and irony.

    Parameters
    ----------
    split : {"train", "test", "all"}, default="train"
        One half or both. Both halves have the same mix of products and labels.

    Returns
    -------
    Reviews
        The reviews, their labels (``"negative"``, ``"positive"``) and kinds of product.

    Raises
    ------
    DataFormatError
        If there is no such split.

    Examples
    --------
    >>> from instructclf.datasets import load_reviews
    >>> sorted(set(load_reviews("train").labels))
    ['negative', 'positive']
    """
    if split not in _SPLITS:
        known = ", ".join(repr(name) for name in _SPLITS)
        msg = f"The 'split' parameter must be one of {known}. Got {split!r} instead."
        raise DataFormatError(msg)
    rows = [row for row in read_rows(_PATH) if split in ("all", row.values["split"])]
    return Reviews(
        texts=[take_text(row, "text") for row in rows],
        labels=[take_text(row, "label") for row in rows],
        products=[take_text(row, "product") for row in rows],
    )
