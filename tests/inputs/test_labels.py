"""Labels of any kind become one array; other values are refused with position and remedy."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.exceptions import DataConversionWarning

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels, check_same_length

STRINGS = {
    "list": ["b", "a"],
    "object array": np.array(["b", "a"], dtype=object),
    "StringDType array": np.array(["b", "a"], dtype=np.dtypes.StringDType()),
    "Series": pd.Series(["b", "a"], index=[7, 3]),
    "categorical Series": pd.Series(["b", "a"], dtype="category"),
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


def test_continuous_numbers_are_an_error():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        check_labels([0.5, 1.5])


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
