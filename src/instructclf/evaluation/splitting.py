"""What a user gives → a checked split into training and test rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.exceptions import InvalidLabelsError, InvalidTextsError


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test rows, checked.

    Parameters
    ----------
    X_train : list of str, length n_train
        The texts to learn from.
    y_train : ndarray of shape (n_train,)
        Their labels.
    X_test : list of str, length n_test
        The texts to predict.
    y_test : ndarray of shape (n_test,)
        Their labels.
    """

    X_train: list[str]
    y_train: NDArray[Any]
    X_test: list[str]
    y_test: NDArray[Any]


def check_split(X_train: Any, y_train: Any, X_test: Any, y_test: Any) -> Split:
    """Return the split, or say which of its four parts is wrong."""
    split = Split(
        check_texts("X_train", X_train),
        check_labels("y_train", y_train),
        check_texts("X_test", X_test),
        check_labels("y_test", y_test),
    )
    check_lengths("X_train", split.X_train, "y_train", split.y_train)
    check_lengths("X_test", split.X_test, "y_test", split.y_test)
    in_training, in_test = set(split.y_train.tolist()), set(split.y_test.tolist())
    if in_training.isdisjoint(in_test):
        msg = (
            f"y_test and y_train have no label in common: {_name(in_test)} and "
            f"{_name(in_training)}. Give both the same labels, of the same type."
        )
        raise InvalidLabelsError(msg)
    return split


def check_texts(name: str, X: Any) -> list[str]:
    """Return texts as a list, or say which one is none."""
    if isinstance(X, str | bytes) or not isinstance(X, Iterable):
        msg = f"{name} must be a sequence of str, such as a list. Got {X!r} instead."
        raise InvalidTextsError(msg)
    shape = getattr(X, "shape", (0,))
    if len(shape) != 1:
        msg = f"{name} must be one-dimensional, a text for each row. Got shape {shape}."
        raise InvalidTextsError(msg)
    texts = list(X)
    if not texts:
        msg = f"{name} is empty. Give at least one text."
        raise InvalidTextsError(msg)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            msg = f"Text {position} of {name} is a {type(text).__name__}, expected a str."
            raise InvalidTextsError(msg)
    return texts


def check_labels(name: str, y: Any) -> NDArray[Any]:
    """Return labels as an array, or say which one is missing."""
    labels = np.asarray(y)
    if labels.ndim != 1:
        msg = f"{name} must be one-dimensional, a label for each text. Got shape {labels.shape}."
        raise InvalidLabelsError(msg)
    for position, label in enumerate(labels.tolist()):
        if label is None or label != label:  # noqa: PLR0124 - only a NaN differs from itself
            msg = f"Label {position} of {name} is missing: {label}. Drop the row or label it."
            raise InvalidLabelsError(msg)
        if isinstance(label, float) and np.isinf(label):
            msg = f"Label {position} of {name}: Input y contains infinity. Give labels."
            raise InvalidLabelsError(msg)
    # Strings of other kinds neither sort nor compare with NumPy's own everywhere.
    return np.array(labels.tolist()) if labels.dtype.kind in "OT" else labels


def check_lengths(X_name: str, texts: list[str], y_name: str, labels: NDArray[Any]) -> None:
    """Raise if there is not one label for each text."""
    if len(texts) != len(labels):
        msg = f"{X_name} has {len(texts)} texts and {y_name} has {len(labels)} labels."
        raise InvalidLabelsError(msg)


def _name(labels: set[Any], at_most: int = 5) -> str:
    names = sorted(map(repr, labels))
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")
