"""Rows → texts and labels: a file or data set with a text column and a label column."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from instructclf.datasets.class_names import name_class
from instructclf.datasets.data_sets import read_data_set
from instructclf.datasets.rows import read_rows
from instructclf.datasets.tables import Reading, Row
from instructclf.exceptions import DataFormatError
from instructclf.inputs.paths import expand
from instructclf.inputs.spelling import did_you_mean


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their labels.

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
    source: str | os.PathLike[str] | Any,
    *,
    text_column: str = "text",
    label_column: str = "label",
    label_names: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> LabelledTexts:
    r"""Read the texts and labels of a file, or of a data set of ``datasets``.

    Parameters
    ----------
    source : str, path-like or datasets.Dataset
        A file that ends in ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` (all also ``.gz``) or
        ``.parquet``, or one split of a data set. A ``.json`` file holds a list of objects, or one
        object a line. A csv file starts with a line of column names; parquet needs the ``data``
        extra.
    text_column : str, default="text"
        The column of texts. Other columns are ignored.
    label_column : str, default="label"
        The column of labels, strings or integers, returned as strings. If a data set, or a parquet
        file that ``datasets`` wrote, declares class numbers (``ClassLabel``), the class names are
        returned.
    label_names : sequence of str or None, default=None
        The class names, in the order of the numbers from 0 in the column, for files that do not
        have them. ``None`` returns the labels unchanged.
    delimiter : str or None, default=None
        The character between the cells of a csv file. ``None`` takes the one of comma, semicolon,
        tab and ``|`` that the header has around both columns.
    encoding : str or None, default=None
        The encoding of a text file without a byte order mark, such as ``"cp1252"``. ``None`` is
        UTF-8.

    Returns
    -------
    LabelledTexts
        The texts and their labels, in the order of the file.

    Raises
    ------
    DataFormatError
        If the ending is unknown, there are no rows, a column is missing, a row cannot be read or
        has no text or no label, ``label_names`` has no name for a label, the encoding or delimiter
        does not fit, or the data set is streamed or has several splits. The message says where.
    MissingExtraError
        If the file is parquet and pyarrow is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "films.csv")
    ...     _ = file.write_text('text,label\n"Slow, but lovely.",1\n')
    ...     read_labelled(file, label_names=["negative", "positive"])
    LabelledTexts(texts=['Slow, but lovely.'], labels=['positive'])
    """
    columns = (text_column, label_column)
    if isinstance(source, str | os.PathLike):
        name, rows = str(source), read_rows(expand(source), Reading(columns, delimiter, encoding))
    else:
        name, rows = "The data set", read_data_set(source, columns)
    return take_labelled(name, rows, text_column, label_column, label_names)


def take_labelled(
    name: str,
    rows: Iterable[Row],
    text_column: str,
    label_column: str,
    label_names: Sequence[str] | None = None,
    *,
    options: tuple[str, str] = ("text_column=…", "label_column=…"),
) -> LabelledTexts:
    """Take the texts and labels from rows. Errors name the user's options for the columns.

    Raises
    ------
    DataFormatError
        If there are no rows, or one lacks a text or a label.
    """
    if isinstance(label_names, str):
        msg = f"label_names must be a list of names. Got the text {label_names!r}."
        raise DataFormatError(msg)
    names = None if label_names is None else [str(one) for one in label_names]
    texts: list[str] = []
    labels: list[str] = []
    for row in rows:
        texts.append(take_text(row, text_column, option=options[0]))
        labels.append(take_label(row, label_column, names, options[1]))
    if not texts:
        msg = f"{name} has no rows. Expected the columns {text_column!r} and {label_column!r}."
        raise DataFormatError(msg)
    return LabelledTexts(texts, labels)


def take_text(row: Row, column: str, *, option: str | None = None) -> str:
    """Return the string in this column, or raise."""
    value = take_value(row, column, option)
    if not isinstance(value, str):
        msg = f"{row.location}: {column!r} is {_describe(value)}, expected a str."
        raise DataFormatError(msg)
    return value


def take_label(row: Row, column: str, names: Sequence[str] | None, option: str) -> str:
    """Return the label in this column as a string, by name if it is the number of one, or raise."""
    value = take_value(row, column, option)
    if names is not None and value != "":
        value = name_class(row.location, column, value, names, has_types=row.has_types)
    if not isinstance(value, str | int) or value == "":
        msg = (
            f"{row.location}: {column!r} is {_describe(value)}, expected a label, a str or an int."
        )
        if isinstance(value, list):
            msg += " Lists of labels are read by instructclf fit --list-column …, not here."
        raise DataFormatError(msg)
    return str(value)


def take_value(row: Row, column: str, option: str | None) -> Any:
    """Return what a row has in this column, or raise an error that names the option for it."""
    if column not in row.values:
        names = ", ".join(repr(name) for name in row.values)
        remedy = did_you_mean([column], row.values)
        remedy += f" Name the right one with {option}." if option else ""
        if len(row.values) == 1 and any(mark in names for mark in (";", "\\t", "|")):
            remedy += " If these are several columns, name their 'delimiter' (--delimiter)."
        msg = f"{row.location} has no column {column!r}. The columns are {names or 'none'}.{remedy}"
        raise DataFormatError(msg)
    return row.values[column]


def _describe(value: Any) -> str:
    return "empty" if value in (None, "") else f"{value!r}, a {type(value).__name__}"
