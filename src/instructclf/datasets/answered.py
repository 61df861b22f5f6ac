"""Rows → texts and the answers to several questions: a text column, and columns of labels or lists.

A column of lists becomes a column of 0 and 1 for each label in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instructclf.datasets.labelled import take_label, take_text, take_value
from instructclf.datasets.tables import Row
from instructclf.exceptions import DataFormatError
from instructclf.inputs.spelling import did_you_mean

_INDICATORS = {"0": 0, "1": 1, "false": 0, "true": 1}


@dataclass(frozen=True)
class AnswerColumns:
    """The columns that hold answers, and how their cells are read.

    Parameters
    ----------
    labels : sequence of str
        Columns with one label a row.
    lists : mapping of str to sequence of str
        Columns with a list of labels a row, and labels that are known without rows.
    separator : str
        What is between labels where a list is a text.
    """

    labels: Sequence[str]
    lists: Mapping[str, Sequence[str]]
    separator: str

    @property
    def names(self) -> list[str]:
        """The names of all these columns."""
        return [*self.labels, *self.lists]


@dataclass(frozen=True)
class AnsweredTexts:
    """Texts and the answers to several questions about each.

    Parameters
    ----------
    texts : list of str
        The texts.
    questions : dict of str to list of str
        The questions of each column: the column itself, or the labels in its lists.
    columns : dict of str to list of (str or int)
        The answers to each question, 0 and 1 where there are no others.
    """

    texts: list[str]
    questions: dict[str, list[str]]
    columns: dict[str, list[Any]]

    @property
    def names(self) -> list[str]:
        """The questions."""
        return list(self.columns)

    @property
    def labels(self) -> list[list[Any]]:
        """The answers to each text, a table with a column for each question."""
        return [list(row) for row in zip(*self.columns.values(), strict=True)]

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)


def take_answered(
    name: str,
    rows: Iterable[Row],
    text_column: str,
    columns: AnswerColumns,
    known: AnsweredTexts | None = None,
) -> AnsweredTexts:
    """Take texts and answers from rows. ``known`` are other rows, which decide the questions.

    Raises
    ------
    DataFormatError
        If there are no rows, one lacks a text or an answer, two questions have the same name, or
        a list has a label that is not known.
    """
    taken = list(rows)
    if not taken:
        expected = ", ".join(map(repr, [text_column, *columns.names]))
        msg = f"{name} has no rows. Expected the columns {expected}."
        raise DataFormatError(msg)
    texts = [take_text(row, text_column, option="--text-column …") for row in taken]
    answered = AnsweredTexts(texts, {}, {})
    for column in columns.labels:
        _add_labels(answered, taken, column, known)
    for column in columns.lists:
        _add_lists(answered, taken, column, columns, known)
    return answered


def _add_labels(
    answered: AnsweredTexts, rows: Sequence[Row], column: str, known: AnsweredTexts | None
) -> None:
    """Add a column with one label a row, of numbers if it has only 0 and 1."""
    cells = [take_label(row, column, None, "--label-column …") for row in rows]
    is_indicator = all(cell.lower() in _INDICATORS for cell in cells)
    if known is not None:
        is_indicator &= isinstance(known.columns[column][0], int)
    answered.questions[column] = [column]
    answered.columns[column] = [_INDICATORS[c.lower()] for c in cells] if is_indicator else cells


def _add_lists(
    answered: AnsweredTexts,
    rows: Sequence[Row],
    column: str,
    columns: AnswerColumns,
    known: AnsweredTexts | None,
) -> None:
    """Add a column of 0 and 1 for each label of a column with lists."""
    lists = [_take_list(row, column, columns.separator) for row in rows]
    labels = sorted(set(columns.lists[column]).union(*lists))
    if known is not None:
        labels = known.questions[column]
        _check_known(rows, column, lists, labels)
    if not labels:
        msg = f"No row has a label in the column {column!r}. Give rows that have."
        raise DataFormatError(msg)
    taken = [*columns.names, *answered.columns]
    if repeated := [label for label in labels if label in taken]:
        msg = (
            f"{repeated[0]!r} is a label in the lists of {column!r}, and the name of another "
            "column or label. Each is a question of its own: rename one of them."
        )
        raise DataFormatError(msg)
    answered.questions[column] = labels
    answered.columns.update({label: [int(label in own) for own in lists] for label in labels})


def _take_list(row: Row, column: str, separator: str) -> list[str]:
    """Return the labels of a row."""
    value = take_value(row, column, "--list-column …")
    labels: Any = _split(value, separator) if isinstance(value, str) else value
    labels = [] if value is None else labels
    if not isinstance(labels, list) or not all(
        isinstance(label, str | int) and label != "" for label in labels
    ):
        msg = (
            f"{row.location}: {column!r} is {value!r}, expected a list of labels, or a text with "
            f"{separator!r} between them (--list-separator)."
        )
        raise DataFormatError(msg)
    return [str(label) for label in labels]


def _split(cell: str, separator: str) -> Any:
    """Return the labels in a text: a list as JSON or pandas writes it, or separated labels."""
    if cell.lstrip().startswith("["):
        try:
            return ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return [label.strip() for label in cell.split(separator) if label.strip()]


def _check_known(
    rows: Sequence[Row], column: str, lists: Sequence[list[str]], labels: Sequence[str]
) -> None:
    for row, own in zip(rows, lists, strict=True):
        if unknown := [label for label in own if label not in labels]:
            msg = (
                f"{row.location}: {column!r} has the label {unknown[0]!r}, which is in no row to "
                f"learn from.{did_you_mean(unknown[:1], labels)} Define it to make it known "
                "(--definitions …), or leave the row out."
            )
            raise DataFormatError(msg)
