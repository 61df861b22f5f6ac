"""``y`` of any kind → an array of labels, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.texts import is_missing


def check_labels(y: Any, name: str = "y") -> NDArray[Any]:
    """Return labels as a one-dimensional array.

    Parameters
    ----------
    y : array-like of shape (n_texts,)
        The labels.
    name : str, default="y"
        The caller's name for them, used in errors.

    Returns
    -------
    ndarray of shape (n_texts,)
        The labels. Strings of any kind become NumPy strings, which sort and compare everywhere.

    Raises
    ------
    InvalidLabelsError
        If ``y`` is not a sequence, is empty, or has a missing label.
    ValueError
        If ``y`` has several columns, or holds continuous numbers.
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
    check_classification_targets(labels)
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
    names = getattr(y, "column_names", getattr(y, "columns", None))
    if names is not None:
        y = _from_frame(y, list(names))
    if hasattr(y, "to_pylist"):
        y = y.to_pylist()
    if isinstance(y, Mapping | Set | str | bytes):
        msg = f"{name} must be a sequence of labels. Got {type(y).__name__}: give a list."
        raise InvalidLabelsError(msg)
    if not isinstance(y, np.ndarray) and isinstance(y, Iterable):
        y = list(y)
        _check_no_missing(y, name)  # before NumPy turns a NaN among strings into "nan"
    array = np.asarray(y)
    if array.ndim == 0:
        msg = f"{name} must be a sequence of labels. Got {y!r}: give a list."
        raise InvalidLabelsError(msg)
    _check_no_missing(array.ravel().tolist(), name)
    holds_strings = array.dtype.kind == "T" or (
        array.dtype == object and all(isinstance(label, str) for label in array.ravel())
    )
    return np.array(array.tolist(), dtype=str) if holds_strings else array


def _from_frame(frame: Any, names: list[Any]) -> Any:
    """Return the columns of a frame; iterating over it would give their names."""
    columns = [list(_as_array(frame[name], str(name))) for name in names]
    return [[label] for label in columns[0]] if len(columns) == 1 else np.array(columns, object).T


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
