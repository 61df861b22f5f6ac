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
        _check_texts("X_train", X_train),
        _check_labels("y_train", y_train),
        _check_texts("X_test", X_test),
        _check_labels("y_test", y_test),
    )
    _check_lengths("X_train", split.X_train, "y_train", split.y_train)
    _check_lengths("X_test", split.X_test, "y_test", split.y_test)
    in_training, in_test = set(split.y_train.tolist()), set(split.y_test.tolist())
    if in_training.isdisjoint(in_test):
        msg = (
            f"y_test and y_train have no label in common: {_name(in_test)} and "
            f"{_name(in_training)}. Give both the same labels, of the same type."
        )
        raise InvalidLabelsError(msg)
    return split


def _check_texts(name: str, X: Any) -> list[str]:
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


def _check_labels(name: str, y: Any) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.ndim != 1:
        msg = f"{name} must be one-dimensional, a label for each text. Got shape {labels.shape}."
        raise InvalidLabelsError(msg)
    for position, label in enumerate(labels.tolist()):
        if label is None or label != label:  # noqa: PLR0124 - only a NaN differs from itself
            msg = f"Label {position} of {name} is missing: {label}. Drop the row or label it."
            raise InvalidLabelsError(msg)
    return labels


def _check_lengths(X_name: str, texts: list[str], y_name: str, labels: NDArray[Any]) -> None:
    if len(texts) != len(labels):
        msg = f"{X_name} has {len(texts)} texts and {y_name} has {len(labels)} labels."
        raise InvalidLabelsError(msg)


def _name(labels: set[Any], at_most: int = 5) -> str:
    names = sorted(map(repr, labels))
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")
