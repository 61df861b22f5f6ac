"""Labels of any kind become one array; other values are refused with position and remedy."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import warnings

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.exceptions import DataConversionWarning

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels, check_same_length


class Stars(enum.IntEnum):
    """Labels that are numbers."""

    ONE = 1
    TWO = 2


class Mood(str, enum.Enum):  # noqa: UP042  (whose str() is the name of a member, not its text)
    """Labels that are texts."""

    GLAD = "a"
    SAD = "b"


class Shouted(str):
    """A text that is shown in another way."""

    __slots__ = ()

    def __str__(self):
        return self.upper()


STRINGS = {
    "list": ["b", "a"],
    "object array": np.array(["b", "a"], dtype=object),
    "StringDType array": np.array(["b", "a"], dtype=np.dtypes.StringDType()),
    "Series": pd.Series(["b", "a"], index=[7, 3]),
    "categorical Series": pd.Series(["b", "a"], dtype="category"),
    "members of an enum": [Mood.SAD, Mood.GLAD],
    "object array of members": np.array([Mood.SAD, Mood.GLAD], dtype=object),
    "another kind of text": [Shouted("b"), Shouted("a")],
    "polars Series": pl.Series(["b", "a"]),
    "pyarrow array": pa.array(["b", "a"]),
}


@pytest.mark.parametrize("y", STRINGS.values(), ids=STRINGS)
def test_strings_of_any_kind_become_numpy_strings(y):
    labels = check_labels(y)
    assert labels.tolist() == ["b", "a"]
    assert labels.dtype.kind == "U"


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (None, "requires y to be passed, but the target y_test is None"),
        ([], r"Found array with 0 sample\(s\) in y_test"),
        ({"a"}, "y_test must be a sequence of labels. Got set"),
        (["a", None], "Label 1 is None: Input y_test contains NaN or None"),
        ([0.0, float("inf")], "Label 1 is inf: Input y_test contains infinity"),
    ],
)
def test_errors_use_the_callers_name(y, match):
    with pytest.raises(InvalidLabelsError, match=match):
        check_labels(y, "y_test")


NUMBERS = {
    "booleans": np.array([True, False], dtype=object),
    "numbers": np.array([2, 1], dtype=object),
    "members of an enum": [Stars.TWO, Stars.ONE],
    "small numbers": [np.int8(2), np.int8(1)],
    "large numbers": np.array([2**64 - 1, 0], dtype=np.uint64),
    "whole floats": np.array([2.0, 1.0], dtype=object),
    "tensors": torch.tensor([2, 1]),
}


@pytest.mark.parametrize("y", NUMBERS.values(), ids=NUMBERS)
def test_numbers_and_booleans_of_any_array_come_out_as_they_went_in(y):
    labels = check_labels(y)
    assert labels.dtype.kind in "biuf"
    assert labels.tolist() == list(y)
    assert isinstance(labels.tolist()[0], bool) == isinstance(y[0], bool)


OTHERS = {
    "Decimal": [decimal.Decimal("1.5"), decimal.Decimal(2)],
    "Fraction": [fractions.Fraction(1, 2)],
    "date": [datetime.date(2020, 1, 31)],
    "datetime64": np.array(["2020-01-31", "2021-01-31"], dtype="datetime64[ns]"),
    "timedelta64": np.array([1, 2], dtype="timedelta64[D]"),
    "Timestamp": pd.Series(pd.to_datetime(["2020-01-31"])),
    "Interval": pd.Series(pd.cut([1, 2, 3], 2)),
    "Enum": [enum.Enum("Colour", "RED").RED],
    "bytes": [b"a", b"b"],
    "complex": [1j],
    "list": [["a"], ["b", "c"]],
    "tuple": np.array([("a", "b"), ("c",)], dtype=object),
}


@pytest.mark.parametrize("y", OTHERS.values(), ids=OTHERS)
def test_labels_of_other_kinds_are_an_error_that_says_which_kinds_are_taken(y):
    match = r"^Label 0 of y is .*\. Labels are texts, whole numbers or booleans, all of one k"
    with pytest.raises(InvalidLabelsError, match=match):
        check_labels(y)


@pytest.mark.parametrize("y", [["a", 1], [True, 2], np.array(["a", True], dtype=object)], ids=str)
def test_labels_of_several_kinds_are_an_error(y):
    with pytest.raises(InvalidLabelsError, match=r"Label 1 of y is .*, and label 0 is .* one kind"):
        check_labels(y)


@pytest.mark.parametrize("y", [["a\0", "a"], [2**70, 1], [2**53 + 1, 1.0]], ids=repr)
def test_labels_that_an_array_cannot_hold_are_an_error(y):
    with pytest.raises(InvalidLabelsError, match="Label 0 of y is .* cannot hold exactly"):
        check_labels(y)


def test_as_many_texts_as_labels_give_no_warning_of_regression():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(check_labels([f"label {number}" for number in range(30)])) == 30
    with pytest.warns(UserWarning, match="number of unique classes is greater than 50%"):
        check_labels(list(range(30)))


def test_continuous_numbers_are_an_error():
    with pytest.raises(InvalidLabelsError, match="Unknown label type: continuous. Label 1 of y is"):
        check_labels([1.0, 1.5])


FRAMES = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "datasets": datasets.Dataset.from_dict,
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_a_frame_of_one_column_is_that_column(make):
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        found = check_labels(make({"label": ["b", "a", "b"]}))
    assert found.tolist() == ["b", "a", "b"]
    with pytest.raises(ValueError, match="1d array"):
        check_labels(make({"one": ["b", "a", "b"], "two": ["a", "a", "b"]}))
    with pytest.raises(InvalidLabelsError, match="Label 1 is (None|nan): Input label"):
        check_labels(make({"label": ["b", None, "b"]}))


def test_texts_and_labels_must_have_the_same_length():
    with pytest.raises(InvalidLabelsError, match="2 texts in X_test and 1 labels in y_test"):
        check_same_length(["a", "b"], np.array([0]), ("X_test", "y_test"))
