"""``y`` of any kind → an array of labels, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.texts import is_missing

_NATIVE = "biufU"
"""Kinds of NumPy arrays whose labels stay as they are."""


def check_labels(y: Any, name: str = "y") -> NDArray[Any]:
    """Return labels as a one-dimensional array, each equal to the one given.

    Texts become NumPy strings, which sort and compare everywhere, also those of an enum whose
    members are texts. Errors call ``y`` by its name.

    Raises
    ------
    InvalidLabelsError
        If ``y`` is not a sequence, is empty, has several columns or a missing label, or if labels
        are of another kind than text, whole number or boolean, or of several kinds.
    """
    if y is None:
        msg = (
            f"This estimator requires y to be passed, but the target {name} is None. Give one "
            "label for each text."
        )
        raise InvalidLabelsError(msg)
    labels = column_or_1d(_as_array(y, name), warn=True)
    if not len(labels):
        msg = (
            f"Found array with 0 sample(s) in {name}. Give at least one labelled text of each "
            "class."
        )
        raise InvalidLabelsError(msg)
    if labels.dtype.kind in "iuf":
        _check_whole(labels, name)
        check_classification_targets(labels)  # warns where numbers look like measurements
    return labels


def check_same_length(
    texts: Sequence[str], labels: NDArray[Any], names: tuple[str, str] = ("X", "y")
) -> None:
    """Raise if the number of labels differs from that of texts."""
    if len(texts) != len(labels):
        msg = (
            f"Found input variables with inconsistent numbers of samples: {len(texts)} texts in "
            f"{names[0]} and {len(labels)} labels in {names[1]}. Give one label for each text."
        )
        raise InvalidLabelsError(msg)


def _as_array(y: Any, name: str) -> NDArray[Any]:
    """Return labels as an array of shape (n_texts,) or (n_texts, 1)."""
    names = getattr(y, "column_names", getattr(y, "columns", None))
    if names is not None:
        y = _from_frame(y, list(names))
    if hasattr(y, "to_pylist"):
        y = y.to_pylist()
    if isinstance(y, Mapping | Set | str | bytes):
        msg = f"{name} must be a sequence of labels. Got {type(y).__name__}: give a list."
        raise InvalidLabelsError(msg)
    if not isinstance(y, Iterable) or getattr(y, "ndim", 1) == 0:
        msg = f"{name} must be a sequence of labels. Got {y!r}: give a list."
        raise InvalidLabelsError(msg)
    if isinstance(y, np.ndarray) and y.dtype.kind in _NATIVE:
        _check_no_missing(y.ravel().tolist(), name)
        _check_one_column(y.shape, name)
        return y
    rows = list(y)  # keeps dates of NumPy, where tolist() makes numbers of them
    widths = {len(row) if _is_row(row) else -1 for row in rows}
    if len(widths) != 1 or -1 in widths:
        return _of_one_kind(rows, name)
    _check_one_column((len(rows), *widths), name)
    return _of_one_kind([row[0] for row in rows], name).reshape(-1, 1)


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _from_frame(frame: Any, names: list[Any]) -> list[list[Any]]:
    """Return the rows of a frame; iterating over it would give the names of its columns."""
    columns = [list(_as_array(frame[name], str(name))) for name in names]
    return [list(row) for row in zip(*columns, strict=True)]


def _of_one_kind(labels: list[Any], name: str) -> NDArray[Any]:
    """Return an array of labels that are equal to those given."""
    _check_no_missing(labels, name)
    labels = [_unwrapped(label) for label in labels]
    kinds = [_kind_of(label) for label in labels]
    for position, kind in enumerate(kinds):
        if kind is None or kind != kinds[0]:
            raise InvalidLabelsError(_describe_wrong_kind(labels, position, name))
    array = np.array(labels)
    for position, (label, held) in enumerate(zip(labels, array.tolist(), strict=True)):
        if label != held or array.dtype == object:
            msg = (
                f"Label {position} of {name} is {label!r}, which an array of NumPy cannot hold "
                "exactly. Give shorter numbers, or texts that do not end in a NUL character."
            )
            raise InvalidLabelsError(msg)
    return array


def _unwrapped(label: Any) -> Any:
    """Return the text of an instance of a subclass of str, and the number in a tensor."""
    if isinstance(label, str):
        return str.__str__(label)  # str() of an enum's member may be its name
    is_tensor = not isinstance(label, np.generic) and getattr(label, "ndim", None) == 0
    return label.item() if is_tensor and hasattr(label, "item") else label


def _kind_of(label: Any) -> type | None:
    if isinstance(label, np.timedelta64):  # an integer to NumPy
        return None
    kinds = {str: str, bool: bool | np.bool_, int: int | float | np.integer | np.floating}
    return next((kind for kind, types in kinds.items() if isinstance(label, types)), None)


def _describe_wrong_kind(labels: list[Any], position: int, name: str) -> str:
    label, first = labels[position], labels[0]
    also = f", and label 0 is {first!r} ({type(first).__name__})" if position else ""
    if isinstance(label, Enum):
        remedy = "give the value of each, label.value"
    elif isinstance(label, bytes):
        remedy = "decode them first"
    elif _is_row(label):
        remedy = "give one label for each text"
    else:
        remedy = f"convert them first, for example with [str(label) for label in {name}]"
    return (
        f"Label {position} of {name} is {label!r} ({type(label).__name__}){also}. Labels are "
        f"texts, whole numbers or booleans, all of one kind: {remedy}."
    )


def _check_one_column(shape: tuple[int, ...], name: str) -> None:
    if len(shape) > 1 and shape[1:] != (1,):
        msg = (
            f"{name} should be a 1d array, got an array of shape {shape} instead. Give one label "
            "for each text."
        )
        raise InvalidLabelsError(msg)


def _check_whole(labels: NDArray[Any], name: str) -> None:
    fractions = np.flatnonzero(labels % 1)
    if len(fractions):
        position = int(fractions[0])
        msg = (
            f"Unknown label type: continuous. Label {position} of {name} is "
            f"{labels[position].item()!r}, which is no whole number. Give the class of each text, "
            "or sort the numbers into ranges first."
        )
        raise InvalidLabelsError(msg)


def _check_no_missing(labels: list[Any], name: str) -> None:
    for position, label in enumerate(labels):
        if is_missing(label):
            msg = (
                f"Label {position} is {label!r}: Input {name} contains NaN or None. Drop the rows "
                "without a label."
            )
            raise InvalidLabelsError(msg)
        if isinstance(label, float) and np.isinf(label):
            msg = f"Label {position} is {label!r}: Input {name} contains infinity. Give labels."
            raise InvalidLabelsError(msg)
