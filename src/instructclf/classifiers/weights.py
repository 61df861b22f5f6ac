"""What a caller says about how much rows and classes count → one weight a row, or an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight

from instructclf.exceptions import InvalidLabelsError, MissingClassWarning, warn_caller
from instructclf.inputs.spelling import did_you_mean


def rows_that_count(
    sample_weight: Any, texts: Sequence[str], codes: NDArray[np.intp], classes: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.float64] | None]:
    """Return the positions of rows with a weight above 0, and their weights, both (n_rows,).

    A row of weight 0 counts as left out. Weights are ``None`` if none were given.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are 0, or there is not one for each text.
    InvalidLabelsError
        If rows of one class only are left of several.

    Warns
    -----
    MissingClassWarning
        If no row of a class is left.
    """
    rows, weights = positive_rows(sample_weight, texts)
    if weights is not None:
        _check_classes_left(classes, codes, rows)
    return rows, weights


def positive_rows(
    sample_weight: Any, rows: Any
) -> tuple[NDArray[np.intp], NDArray[np.float64] | None]:
    """Return the positions of rows with a weight above 0, and their weights, both (n_rows,).

    Weights are ``None`` if none were given.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are 0, or there is not one for each row.
    """
    if sample_weight is None:
        return np.arange(len(rows)), None
    weights = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
    positive = np.flatnonzero(weights)
    if not len(positive):  # scikit-learn 1.9 finds this by itself
        msg = "Sample weights must contain at least one non-zero number. Got zeros only."
        raise ValueError(msg)
    return positive, weights[positive]


def _check_classes_left(
    classes: NDArray[Any], codes: NDArray[np.intp], rows: NDArray[np.intp]
) -> None:
    left = np.unique(codes[rows])
    lost = np.setdiff1d(codes, left)
    if not len(lost):
        return
    if len(left) < 2:
        msg = (
            "Classifier can't train when only one class is present: sample_weight is 0 for all "
            f"rows but those of {classes[left].tolist()[0]!r}. Give rows of two labels a weight."
        )
        raise InvalidLabelsError(msg)
    warn_caller(
        f"sample_weight is 0 for all rows of {classes[lost].tolist()!r}. They stay classes, of "
        "which nothing is learned.",
        MissingClassWarning,
    )


def weigh_rows(
    class_weight: Mapping[Any, float] | str | None,
    classes: NDArray[Any],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64] | None,
) -> NDArray[np.float64] | None:
    """Multiply the weights of rows with those of their classes, (n_rows,); ``None`` if all are 1.

    ``"balanced"`` gives the rows of each class the same total weight.

    Raises
    ------
    InvalidLabelsError
        If ``class_weight`` lacks labels and names others, has a weight that is negative or no
        finite number, or leaves no row a weight.
    """
    if class_weight is None:
        return weights
    own = np.ones(len(codes)) if weights is None else weights
    if isinstance(class_weight, Mapping):
        of_classes = _given_weights(class_weight, classes.tolist())
    else:
        of_classes = _balancing_weights(codes, own, len(classes))
    product = own * of_classes[codes]
    if not product.any():
        msg = (
            f"class_weight={class_weight!r} leaves no row of fit a weight. Give two labels or more "
            "a weight above 0."
        )
        raise InvalidLabelsError(msg)
    return product


def _given_weights(class_weight: Mapping[Any, float], labels: list[Any]) -> NDArray[np.float64]:
    """Return the weights in the order of the labels, by the rules of ``compute_class_weight``.

    That function itself takes labels such as "1" for numbers, and does not find them.
    """
    missing = [label for label in labels if label not in class_weight]
    unknown = [label for label in class_weight if label not in labels]
    if missing and unknown:
        msg = (
            f"class_weight names {unknown!r}, which are no classes, and not {missing!r}. The "
            f"classes are {labels!r}.{did_you_mean(unknown, missing)}"
        )
        raise InvalidLabelsError(msg)
    for label, weight in class_weight.items():
        if not isinstance(weight, Real) or not np.isfinite(weight) or weight < 0:
            msg = (
                f"The class_weight of label {label!r} must be a finite number, 0 or more. Got "
                f"{weight!r}."
            )
            raise InvalidLabelsError(msg)
    return np.array([float(class_weight.get(label, 1.0)) for label in labels])


def _balancing_weights(
    codes: NDArray[np.intp], weights: NDArray[np.float64], n_classes: int
) -> NDArray[np.float64]:
    """Return ``n / (n_classes * n_of_class)``, in weights; 0 for classes without a row."""
    sums = np.bincount(codes, weights=weights, minlength=n_classes)
    present = sums > 0
    of_classes = np.zeros(n_classes)
    of_classes[present] = sums.sum() / (present.sum() * sums[present])
    return of_classes
