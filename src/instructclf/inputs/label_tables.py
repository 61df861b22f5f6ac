"""``y`` of several columns, or of several labels a text → columns of labels with names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import MultiLabelBinarizer

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels
from instructclf.inputs.spelling import did_you_mean


class LabelTable(NamedTuple):
    """Columns of labels.

    Parameters
    ----------
    names : ndarray of shape (n_columns,)
        What the columns are called.
    columns : list of ndarray of shape (n_texts,)
        The labels.
    """

    names: NDArray[Any]
    columns: list[NDArray[Any]]


def read_label_table(y: Any, names: Iterable[Any] | None = None) -> LabelTable:
    """Return the columns of ``y``, a table or the labels of each text.

    Tables are arrays, sparse matrices, data frames, and lists of equally long lists. What has one
    dimension and holds lists or sets has the labels of each text: a column of 0 and 1 for each
    label. Names are those given, else those of a data frame, the labels, or numbers.

    Raises
    ------
    InvalidLabelsError
        If ``y`` is of another shape, a label is missing or of a wrong kind, or the names do not
        name each column once.
    """
    given = None if names is None else _check_names(names)
    if hasattr(y, "toarray"):  # a sparse matrix
        y = y.toarray()
    frame_names = getattr(y, "column_names", getattr(y, "columns", None))
    if frame_names is not None:
        found = _check_names(frame_names)
        return _named(given, found, [y[name] for name in frame_names])
    entries = _to_entries(y)
    if not _is_table(y, entries):
        return _binarise(entries, given)
    columns = list(zip(*(_to_list(row) for row in entries), strict=True))
    numbered = np.array([f"question {number}" for number in range(1, len(columns) + 1)])
    return _named(given, numbered, [list(column) for column in columns])


def _to_entries(y: Any) -> list[Any]:
    """Return what ``y`` holds for each text."""
    convert = getattr(y, "to_pylist", getattr(y, "to_list", None))
    values = y if convert is None else convert()
    is_sequence = isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0
    entries = list(values) if is_sequence and not isinstance(values, Set | str | bytes) else []
    if not entries or not all(_holds_labels(entry) for entry in entries):
        shape = f" of shape {y.shape}" if hasattr(y, "shape") else ""
        msg = (
            "y must have a column for each question, shape (n_texts, n_questions), or a list of "
            f"labels for each text. Got {type(y).__name__}{shape}. For one label a text use "
            "PromptClassifier."
        )
        raise InvalidLabelsError(msg)
    return entries


def _holds_labels(entry: Any) -> bool:
    is_array = isinstance(entry, np.ndarray) and entry.ndim == 1
    return is_array or isinstance(entry, list | tuple | Set)


def _is_table(y: Any, entries: Sequence[Collection[Any]]) -> bool:
    """Say whether rows are those of a table, of which a list of lists of equal length is one."""
    if isinstance(y, np.ndarray):
        return y.ndim == 2
    if not isinstance(y, list | tuple) or any(isinstance(entry, Set) for entry in entries):
        return False
    return len({len(entry) for entry in entries}) == 1 and len(entries[0]) > 0


def _to_list(row: Any) -> list[Any]:
    return row.tolist() if isinstance(row, np.ndarray) else list(row)


def _named(given: NDArray[Any] | None, found: NDArray[Any], columns: Sequence[Any]) -> LabelTable:
    names = found if given is None else given
    if len(names) != len(columns):
        msg = f"questions={names.tolist()!r} must name each of the {len(columns)} columns of y."
        raise InvalidLabelsError(msg)
    checked = [
        check_labels(column, f"column {name!r} of y")
        for name, column in zip(names.tolist(), columns, strict=True)
    ]
    return LabelTable(names, checked)


def _check_names(names: Iterable[Any]) -> NDArray[Any]:
    found = check_labels(list(names), "questions")
    repeated = sorted({name for name in found.tolist() if found.tolist().count(name) > 1})
    empty = [name for name in found.tolist() if not str(name).strip()]
    if repeated or empty:
        msg = (
            f"questions={found.tolist()!r} must name each column of y once. "
            f"{(repeated or empty)[0]!r} is {'there twice' if repeated else 'no name'}."
        )
        raise InvalidLabelsError(msg)
    return found


def _binarise(entries: Sequence[Iterable[Any]], given: NDArray[Any] | None) -> LabelTable:
    """Return a column of 0 and 1 for each label, in sorted order or that of the names given."""
    rows = [_to_list(entry) for entry in entries]
    for position, row in enumerate(rows):
        if row:
            check_labels(row, f"entry {position} of y")
    every = [label for row in rows for label in row]
    if not every and given is None:
        msg = "No text in y has a label. Name the labels in 'questions'."
        raise InvalidLabelsError(msg)
    found = check_labels(every).tolist() if every else []
    known = sorted(set(found)) if given is None else given.tolist()
    unknown = sorted(set(found) - set(known), key=str)
    if unknown:
        msg = (
            f"y has the label {unknown[0]!r}, and questions={known!r} does not name it: add it."
            f"{did_you_mean(unknown[:1], known)}"
        )
        raise InvalidLabelsError(msg)
    indicators = MultiLabelBinarizer(classes=known).fit_transform([set(row) for row in rows])
    return LabelTable(check_labels(known, "questions"), list(np.asarray(indicators).T))
