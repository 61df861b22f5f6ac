"""Any column of texts is accepted; other values are refused with position and remedy."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from instructclf.exceptions import InvalidTextsError
from instructclf.inputs.texts import check_texts
from tests.fixtures import LABELS, TEXTS

WORDS = ["one", "", "three é文"]
SHUFFLED = [7, 3, 5]

COLUMNS = {
    "list": list,
    "tuple": tuple,
    "object array": lambda texts: np.array(texts, dtype=object),
    "unicode array": np.array,
    "StringDType array": lambda texts: np.array(texts, dtype=np.dtypes.StringDType()),
    "column array": lambda texts: np.array(texts, dtype=object).reshape(-1, 1),
    "list of numpy strings": lambda texts: [np.str_(text) for text in texts],
    "Series": lambda texts: pd.Series(
        texts, index=SHUFFLED[: len(texts)] if len(texts) == 3 else None
    ),
    "object Series": lambda texts: pd.Series(texts, dtype=object),
    "nullable Series": lambda texts: pd.Series(texts, dtype="string"),
    "Arrow Series": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
    "categorical Series": lambda texts: pd.Series(texts, dtype="category"),
    "Index": pd.Index,
    "DataFrame": lambda texts: pd.DataFrame({"text": texts}),
    "polars Series": pl.Series,
    "polars DataFrame": lambda texts: pl.DataFrame({"text": texts}),
    "pyarrow array": pa.array,
    "pyarrow chunked array": lambda texts: pa.chunked_array([texts[:1], texts[1:]]),
    "pyarrow table": lambda texts: pa.table({"text": texts}),
    "data set column": lambda texts: datasets.Dataset.from_dict({"text": texts})["text"],
    "pyarrow long strings": lambda texts: pa.array(texts, type=pa.large_string()),
    "pyarrow batch": lambda texts: pa.RecordBatch.from_pydict({"text": texts}),
    "data set": lambda texts: datasets.Dataset.from_dict({"text": texts}),
    "dict values": lambda texts: dict(enumerate(texts)).values(),
}

BAD_TEXTS = {
    "a str": ("a text", r"Got one str: wrap it, as in \[X\]"),
    "bytes": (b"a text", r"Got one bytes: wrap it, as in \[X\]"),
    "nothing": (None, "X must be a sequence of texts. Got NoneType: give a list of str"),
    "a number": (3, "Got int: give a list of str"),
    "a generator": ((text for text in WORDS), "Got generator: give a list of str"),
    "a dict": ({"a": "b"}, "Got dict: give a list of str"),
    "a set": ({"a"}, "Got set: give a list of str"),
    "sparse": (sparse.csr_matrix(np.eye(3)), r"Got a sparse matrix of shape \(3, 3\): give the te"),
    "sparse array": (sparse.csr_array(np.eye(3)), r"Got a sparse matrix of shape \(3, 3\)"),
    "two columns": (np.array([["a", "b"]]), r"Got an array of shape \(1, 2\): give one text for e"),
    "a scalar array": (np.array("a"), r"Got an array of shape \(\): give one text for each row"),
    "three dimensions": (np.array([[["a"]]]), r"Got an array of shape \(1, 1, 1\)"),
    "a frame": (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"2 columns: select one of \['a', 'b'\]"),
    "a polars frame": (pl.DataFrame({"a": ["x"], "b": ["y"]}), r"2 columns: select one of \['a'"),
    "a table": (pa.table({"a": ["x"], "b": ["y"]}), r"2 columns: select one of \['a', 'b'\]"),
    "a data set": (
        datasets.Dataset.from_dict({"text": ["a"], "label": ["b"]}),
        r"2 columns: select one of \['text', 'label'\]",
    ),
    "None": (
        ["a", None],
        r"Text 1 is None \(NoneType\), expected a str\. It is a missing value: d",
    ),
    "NaN": (["a", "b", float("nan")], r"Text 2 is nan \(float\), .* a missing value: drop the row"),
    "a number inside": (["a", 3], r"Text 1 is 3 \(int\), .* convert it with str\(\) if you me"),
    "bytes inside": ([b"a"], r"Text 0 is b'a' \(bytes\), .* bytes: decode them first"),
    "a list inside": (["a", ["b", "c"]], r"Text 1 is \['b', 'c'\] \(list\), .* its parts joined"),
    "numbers": (np.arange(3), r"Text 0 is 0 \(int\), expected a str"),
    "floats": (np.arange(3.0).reshape(-1, 1), r"Text 0 is 0\.0 \(float\), expected a str"),
    "NaN in a Series": (pd.Series(["a", None]), r"Text 1 is (nan|None) .*, .* a missing value"),
    "null in polars": (pl.Series(["a", None]), r"Text 1 is None \(NoneType\), .* a missing value"),
    "null in a frame": (pl.DataFrame({"a": ["a", None]}), r"Text 1 is None \(NoneType\)"),
    "null in pyarrow": (pa.array(["a", None]), r"Text 1 is None \(NoneType\), .* a missing value"),
    "empty": ([], r"Found array with 0 sample\(s\) .* Give at least one text"),
    "an empty array": (np.empty((0, 1)), r"Found array with 0 sample\(s\)"),
    "an empty frame": (pd.DataFrame({"a": []}), r"Found array with 0 sample\(s\)"),
}


# Texts


@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
def test_any_column_of_texts_is_accepted(make):
    texts = check_texts(make(WORDS))
    assert texts == WORDS
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize(("X", "match"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_other_values_are_an_error_with_a_remedy(X, match):
    with pytest.raises(InvalidTextsError, match=match):
        check_texts(X)


@pytest.mark.parametrize(
    "X",
    [pd.Series(["a", None], dtype="string"), ["a", pd.NA], pd.DataFrame({"a": ["a", pd.NA]})],
    ids=["nullable Series", "list", "DataFrame"],
)
def test_the_missing_value_of_pandas_is_recognised(X):
    with pytest.raises(InvalidTextsError, match="Text 1 is (<NA>|nan) .* a missing value"):
        check_texts(X)


def test_rows_that_are_arrays_are_an_error():
    with pytest.raises(InvalidTextsError, match="Text 0 is .*ndarray.*its parts joined"):
        check_texts([np.array(["a", "b"]), np.array(["c", "d"])])


def test_errors_use_the_callers_name():
    with pytest.raises(InvalidTextsError, match="Text 1 of X_test is 3"):
        check_texts(["a", 3], "X_test")
    with pytest.raises(InvalidTextsError, match=r"X_test must be .* wrap it, as in \[X_test\]"):
        check_texts("a", "X_test")


def test_a_lone_surrogate_is_an_error():
    with pytest.raises(InvalidTextsError, match=r"Text 1 .*surrogate"):
        check_texts(["a", "b\ud800"])


@pytest.mark.parametrize(("X", "match"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_classifiers_refuse_other_values_in_fit_and_predict(X, match, make_prompting):
    if isinstance(X, type(text for text in WORDS)):
        X = (text for text in WORDS)
    with pytest.raises(InvalidTextsError, match=match):
        make_prompting().fit(X, LABELS)
    classifier = make_prompting(n_shots=2, calibration=None).fit(TEXTS, LABELS)
    with pytest.raises(InvalidTextsError, match=match):
        classifier.predict(X)


@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
def test_classifiers_accept_any_column_in_fit_and_predict(make, make_prompting):
    classifier = make_prompting(n_shots=2)
    expected = classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)
    fitted = make_prompting(n_shots=2).fit(make(TEXTS), pd.Series(LABELS, index=range(16, 0, -1)))
    np.testing.assert_array_equal(fitted.classes_, classifier.classes_)
    np.testing.assert_array_equal(fitted.predict_proba(make(TEXTS)), expected)
