"""Texts and labels of a user → a checked split into training and test rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.storage import fingerprint


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

    @cached_property
    def test_fingerprint(self) -> str:
        """Return the fingerprint of the test rows, which all runs of the split share."""
        return fingerprint([self.X_test, self.y_test])


def check_split(X_train: Any, y_train: Any, X_test: Any, y_test: Any) -> Split:
    """Return the split, or raise an error that names the wrong part."""
    split = Split(
        check_texts(X_train, "X_train"),
        check_labels(y_train, "y_train"),
        check_texts(X_test, "X_test"),
        check_labels(y_test, "y_test"),
    )
    check_same_length(split.X_train, split.y_train, ("X_train", "y_train"))
    check_same_length(split.X_test, split.y_test, ("X_test", "y_test"))
    in_training, in_test = set(split.y_train.tolist()), set(split.y_test.tolist())
    if in_training.isdisjoint(in_test):
        msg = (
            f"y_test and y_train have no label in common: {_name(in_test)} and "
            f"{_name(in_training)}. Give both the same labels, of the same type."
        )
        raise InvalidLabelsError(msg)
    return split


def _name(labels: set[Any], at_most: int = 5) -> str:
    names = sorted(map(repr, labels))
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")
