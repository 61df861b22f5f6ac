"""Right answers and probabilities → the scores of classifiers, of calibration and of label sets."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels

SCORINGS = ("accuracy", "balanced_accuracy")
"""The kinds of scores, by scikit-learn's names."""

_ROUNDING = 1e-6  # by which a probability may exceed 1, as in a softmax of 32-bit floats


def answer_weights(y_test: NDArray[Any], scoring: str) -> NDArray[np.float64]:
    """Return the weight of each right answer, of shape (n_test,). Their mean is 1.

    With ``"balanced_accuracy"`` all labels have the same weight: the score is the mean over labels
    of the share of their texts that are right.
    """
    if scoring == "accuracy":
        return np.ones(len(y_test))
    _, codes, counts = np.unique(y_test, return_inverse=True, return_counts=True)
    return len(y_test) / (len(counts) * counts[codes])


def name_scoring(scoring: str) -> str:
    """Return a kind of score in words, for tables and pictures."""
    return scoring.replace("_", " ")


def write_scoring(scoring: str) -> str:
    """Return the prefix that names the kind of a score, empty for accuracies."""
    return "" if scoring == "accuracy" else f"{name_scoring(scoring)} "


def note_two_seeds(counts: Iterable[int]) -> str:
    """Return a sentence about intervals from two seeds, empty if there are none."""
    if 2 not in counts:
        return ""
    return "Two seeds make wide intervals, at worst from 0 to 1: five or more narrow them."


def normalise(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct the rounding errors of exp and log, which make scikit-learn's log_loss warn."""
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def check_same_scoring(one: str, other: str) -> None:
    """Raise an error if scores are of two kinds and cannot be compared."""
    if one != other:
        msg = (
            "Only scores of one kind can be compared. The 'scoring' parameter was "
            f"{one!r} for the first and {other!r} for the second."
        )
        raise InvalidParameterError(msg)


def read_predictions(
    y_true: ArrayLike, probabilities: ArrayLike, classes: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the probability of each likeliest label, and whether it is right, both (n_texts,).

    Without ``classes``, they are the labels of ``y_true``. Of two classes one column may be given,
    the second, as scikit-learn's scorers do.
    """
    labels = check_labels(y_true, "y_true")
    columns = np.unique(labels) if classes is None else np.ravel(classes)
    given = np.asarray(probabilities, dtype=float)
    is_second = given.ndim == 1 and len(columns) == 2
    given = given[:, np.newaxis] if is_second else given
    _check_probabilities(given, (len(labels), 1 if is_second else len(columns)))
    given = np.hstack([1 - given, given]) if is_second else given
    _check_known(labels.tolist(), columns.tolist())
    return given.max(axis=1), columns[given.argmax(axis=1)] == labels


def _check_probabilities(given: NDArray[np.float64], shape: tuple[int, int]) -> None:
    """Raise an error unless these are probabilities of this shape."""
    _check_shape("Probabilities", given, shape)
    wrong = ~((given >= 0) & (given <= 1 + _ROUNDING))  # NaN is neither
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        msg = (
            "The 'probabilities' parameter must hold numbers between 0 and 1, as predict_proba "
            f"gives them. Got {given[row, column].item()!r} in row {row}, column {column} instead."
        )
        raise InvalidParameterError(msg)


def _check_shape(what: str, given: NDArray[Any], shape: tuple[int, int]) -> None:
    if given.shape != shape:
        msg = (
            f"{what} must be of shape {shape}, a row for each label in y_true and a column "
            f"for each class. Got shape {given.shape}. If a class has no text in y_true, name all "
            "classes in 'classes'."
        )
        raise InvalidLabelsError(msg)


def _check_known(labels: list[Any], classes: list[Any]) -> None:
    """Raise an error if no label is a class, because then their types or spellings differ."""
    if set(labels).isdisjoint(classes):
        unknown = sorted(set(labels), key=str)
        msg = (
            "No label in y_true is one of the classes, so that no answer could be right. y_true "
            f"holds {unknown!r}, and the classes are {classes!r}. Give both of one type, classes "
            "as in the classifier's classes_."
        )
        raise InvalidLabelsError(msg)


def set_coverage(y_true: ArrayLike, sets: ArrayLike, *, classes: ArrayLike | None = None) -> float:
    """Return the share of sets of labels that contain the right one.

    Parameters
    ----------
    y_true : array-like of shape (n_texts,)
        The true labels.
    sets : array-like of bool, of shape (n_texts, n_classes)
        Which labels are in the set of each text, as ``ConformalClassifier.predict_set`` returns it.
    classes : array-like of shape (n_classes,) or None, default=None
        The labels of the columns. ``None`` takes those of ``y_true``, sorted. No set contains a
        label that is not among them.

    Returns
    -------
    float
        The coverage, from 0 to 1.

    Raises
    ------
    InvalidLabelsError
        If there are no labels, no label is a class, or the shapes do not fit.
    InvalidParameterError
        If ``sets`` are not of type bool.

    See Also
    --------
    mean_set_size : How many labels the sets have.
    instructclf.ConformalClassifier : Predicts sets with a stated coverage.

    Examples
    --------
    >>> from instructclf.evaluation import set_coverage
    >>> set_coverage(["n", "p"], [[True, False], [True, False]])
    0.5

    As the scorer of a cross-validation:

    >>> def scorer(conformal, X, y):
    ...     return set_coverage(y, conformal.predict_set(X), classes=conformal.classes_)
    """
    labels = check_labels(y_true, "y_true")
    columns = np.unique(labels) if classes is None else np.ravel(classes)
    given = _check_sets(sets)
    _check_shape("Sets", given, (len(labels), len(columns)))
    _check_known(labels.tolist(), columns.tolist())
    contains = given & (labels[:, np.newaxis] == columns)
    return float(contains.any(axis=1).mean())


def mean_set_size(sets: ArrayLike) -> float:
    """Return the mean number of labels in a set.

    Of two classifiers whose sets have the same coverage, that with the smaller sets is better.

    Parameters
    ----------
    sets : array-like of bool, of shape (n_texts, n_classes)
        Which labels are in the set of each text, as ``ConformalClassifier.predict_set`` returns it.

    Returns
    -------
    float
        The mean, from 0 to the number of classes.

    Raises
    ------
    InvalidParameterError
        If ``sets`` are not an array of two dimensions and of type bool.

    See Also
    --------
    set_coverage : How many sets contain the right label.

    Examples
    --------
    >>> from instructclf.evaluation import mean_set_size
    >>> mean_set_size([[True, False], [True, True]])
    1.5

    As the scorer of a search, which then finds the classifier with the smallest sets:

    >>> def scorer(conformal, X, y):
    ...     return -mean_set_size(conformal.predict_set(X))
    """
    return float(_check_sets(sets).sum(axis=1).mean())


def _check_sets(sets: ArrayLike) -> NDArray[np.bool_]:
    given = np.asarray(sets)
    if given.dtype != bool or given.ndim != 2:
        msg = (
            "The 'sets' parameter must be an array of bool with a row for each text and a column "
            f"for each class, as predict_set gives it. Got shape {given.shape} of {given.dtype}."
        )
        raise InvalidParameterError(msg)
    return given


class ReliabilityBins(NamedTuple):
    """Predictions sorted into bins of equal width by their confidence.

    Parameters
    ----------
    edges : ndarray of shape (n_bins + 1,)
        The limits of the bins, from 0 to 1.
    counts : ndarray of shape (n_bins,)
        The number of predictions in each bin.
    confidence : ndarray of shape (n_bins,)
        Their mean confidence, NaN in an empty bin.
    accuracy : ndarray of shape (n_bins,)
        The share of right predictions, NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.intp]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, n_bins: int) -> ReliabilityBins:
    """Sort predictions into bins of equal width by their confidence."""
    if not isinstance(n_bins, Integral) or n_bins < 1:
        msg = f"The 'n_bins' parameter must be an int of 1 or more. Got {n_bins!r} instead."
        raise InvalidParameterError(msg)
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    edges = np.linspace(0, 1, n_bins + 1)
    codes = np.searchsorted(edges[1:-1], sure, side="left")
    counts = np.bincount(codes, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        means = [np.bincount(codes, of, minlength=n_bins) / counts for of in (sure, right)]
    return ReliabilityBins(edges, counts, *means)


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, n_bins: int = 15
) -> float:
    """Return the mean difference between confidence and accuracy over the predictions.

    ``Σ_b n_b/n · |accuracy_b - confidence_b|`` over bins of equal width (Naeini et al., AAAI 2015;
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, with 15 bins).
    """
    bins = reliability_bins(confidence, correct, n_bins)
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(bins.counts * gaps) / bins.counts.sum())
