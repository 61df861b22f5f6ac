"""Rows → texts and labels: one file with a column of texts and a column of labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructclf.datasets.rows import Row, read_rows
from instructclf.exceptions import DataFormatError


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the label of each.

    Parameters
    ----------
    texts : list of str
        The texts.
    labels : list of str
        The label of each text, in the same order.
    """

    texts: list[str]
    labels: list[str]

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)


def read_labelled(
    path: str | os.PathLike[str], *, text_column: str = "text", label_column: str = "label"
) -> LabelledTexts:
    r"""Read the texts and labels of a file.

    Parameters
    ----------
    path : str or path-like
        A file that ends in ``.jsonl``, ``.jsonl.gz``, ``.csv``, ``.csv.gz`` or ``.parquet``, in
        UTF-8. A csv file starts with a line of column names; parquet needs the ``data`` extra.
    text_column : str, default="text"
        The column of texts. Other columns are ignored.
    label_column : str, default="label"
        The column of labels, strings or integers. They come back as strings.

    Returns
    -------
    LabelledTexts
        The texts and their labels, in the order of the file.

    Raises
    ------
    DataFormatError
        If the ending is unknown, the file has no rows, a column is missing, or a row cannot be
        read or has no text or no label. The message says where.
    MissingExtraError
        If a parquet file is to be read and pyarrow is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "films.csv")
    ...     _ = file.write_text('text,label\n"Slow, but lovely.",positive\n')
    ...     read_labelled(file)
    LabelledTexts(texts=['Slow, but lovely.'], labels=['positive'])
    """
    path = Path(path)
    texts: list[str] = []
    labels: list[str] = []
    for row in read_rows(path):
        texts.append(take_text(row, text_column, parameter="text_column"))
        labels.append(_take_label(row, label_column))
    if not texts:
        msg = f"{path} has no rows. Expected the columns {text_column!r} and {label_column!r}."
        raise DataFormatError(msg)
    return LabelledTexts(texts, labels)


def take_text(row: Row, column: str, *, parameter: str | None = None) -> str:
    """Return the string in this column, or say what stands there instead."""
    value = _take(row, column, parameter)
    if not isinstance(value, str):
        msg = f"{row.place}: {column!r} is {_describe(value)}, expected a str."
        raise DataFormatError(msg)
    return value


def _take_label(row: Row, column: str) -> str:
    value = _take(row, column, "label_column")
    if not isinstance(value, str | int) or value == "":
        msg = f"{row.place}: {column!r} is {_describe(value)}, expected a label, a str or an int."
        raise DataFormatError(msg)
    return str(value)


def _take(row: Row, column: str, parameter: str | None) -> Any:
    if column not in row.values:
        there = ", ".join(repr(name) for name in row.values)
        remedy = f" Name the right one with {parameter}=…." if parameter else ""
        msg = f"{row.place} has no column {column!r}. The columns are {there or 'none'}.{remedy}"
        raise DataFormatError(msg)
    return row.values[column]


def _describe(value: Any) -> str:
    return "empty" if value in (None, "") else f"{value!r}, a {type(value).__name__}"
