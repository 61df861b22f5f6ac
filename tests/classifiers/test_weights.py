"""Weights of rows and classes, by scikit-learn's rules."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from instructclf.classifiers.weights import rows_that_count, weigh_rows
from instructclf.exceptions import InvalidLabelsError, MissingClassWarning

TEXTS = ["a", "b", "c", "d"]
CODES = np.array([0, 0, 0, 1])
CLASSES = np.array(["bad", "good"])


def count(sample_weight, codes=CODES, classes=CLASSES):
    return rows_that_count(sample_weight, TEXTS, codes, classes)


def test_without_weights_all_rows_count():
    rows, weights = count(None)
    assert rows.tolist() == [0, 1, 2, 3]
    assert weights is None


def test_rows_of_weight_0_do_not_count():
    rows, weights = count([0, 2, 0, 0.5])
    assert rows.tolist() == [1, 3]
    assert weights.tolist() == [2, 0.5]


def test_a_number_is_the_weight_of_every_row():
    assert count(3)[1].tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ([1, 1], r"sample_weight.shape == \(2,\), expected \(4,\)"),
        ([[1, 1, 1, 1]], "Sample weights must be 1D array or scalar"),
        ([1, 1, 1, -1], "Negative values in data passed to `sample_weight`"),
        ([1, 1, 1, np.nan], "Input sample_weight contains NaN"),
        ([1, 1, 1, np.inf], "Input sample_weight contains infinity"),
        ([0, 0, 0, 0], "at least one non-zero number"),
    ],
)
def test_invalid_weights_are_an_error_in_scikit_learns_words(weights, match):
    with pytest.raises(ValueError, match=match):
        count(weights)


def test_weights_that_leave_one_class_are_an_error():
    with pytest.raises(InvalidLabelsError, match="only one class .* those of 'bad'. Give rows of"):
        count([1, 1, 1, 0])


def test_weights_that_leave_out_a_class_are_a_warning():
    classes, codes = np.array(["bad", "good", "so so"]), np.array([0, 1, 2, 2])
    with pytest.warns(MissingClassWarning, match=r"0 for all rows of \['so so'\]. They stay class"):
        rows, _ = count([1, 1, 0, 0], codes, classes)
    assert rows.tolist() == [0, 1]


# Classes


def test_without_class_weights_row_weights_stay_unchanged():
    assert weigh_rows(None, CLASSES, CODES, None) is None
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    assert weigh_rows(None, CLASSES, CODES, weights) is weights


@pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 0.5, 3.0])], ids=["alike", "not"])
@pytest.mark.parametrize(
    "class_weight", ["balanced", {"good": 3.0}, {"good": 3, "bad": 0.5, "so so": 2}], ids=str
)
def test_class_weights_are_those_of_scikit_learn(class_weight, weights):
    of_classes = compute_class_weight(class_weight, classes=CLASSES, y=CLASSES[CODES])
    row_weights = np.ones(4) if weights is None else weights
    if class_weight == "balanced":  # takes weights since scikit-learn 1.8 only
        of_classes = row_weights.sum() / (2 * np.bincount(CODES, weights=row_weights))
    found = weigh_rows(class_weight, CLASSES, CODES, weights)
    np.testing.assert_allclose(found, row_weights * of_classes[CODES])


def test_balanced_classes_weigh_the_same_together():
    found = weigh_rows("balanced", CLASSES, CODES, None)
    np.testing.assert_allclose(np.bincount(CODES, weights=found), [2, 2])


def test_balance_considers_classes_with_rows_only():
    classes, codes = np.array(["bad", "good", "so so"]), np.array([0, 0, 0, 2])
    found = weigh_rows("balanced", classes, codes, None)
    np.testing.assert_allclose(np.bincount(codes, weights=found), [2, 0, 2])


@pytest.mark.parametrize("labels", [["1", "2"], [1, 2], [0.5, 1.5], [True, False]], ids=str)
def test_labels_of_any_type_are_found(labels):
    """``compute_class_weight`` takes "1" for the number, and 0.5 for 0."""
    classes = np.array(sorted(labels))
    found = weigh_rows({classes.tolist()[1]: 5.0}, classes, CODES, None)
    assert found.tolist() == [1, 1, 1, 5]


def test_a_misspelt_label_is_an_error():
    match = r"names \['god'\], which are no classes, and not \['good'\]. .* Did you mean 'good' in"
    with pytest.raises(InvalidLabelsError, match=match):
        weigh_rows({"bad": 1, "god": 2}, CLASSES, CODES, None)


def test_a_weight_for_a_class_that_a_fold_lacks_is_ignored():
    assert weigh_rows({"bad": 1, "good": 2, "so so": 9}, CLASSES, CODES, None).tolist()[3] == 2


@pytest.mark.parametrize("weight", [-1, np.nan, np.inf, "2", None], ids=str)
def test_an_invalid_class_weight_is_an_error(weight):
    with pytest.raises(InvalidLabelsError, match="label 'good' must be a finite number, 0 or more"):
        weigh_rows({"good": weight}, CLASSES, CODES, None)


def test_class_weights_that_leave_no_row_are_an_error():
    with pytest.raises(InvalidLabelsError, match="leaves no row of fit a weight"):
        weigh_rows({"good": 0, "bad": 0}, CLASSES, CODES, None)
