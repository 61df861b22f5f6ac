"""Any column of texts is taken; anything else is refused with its place and a remedy."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.exceptions import DataConversionWarning

from instructclf.classifiers.validation import (
    check_label_words,
    check_labels,
    check_texts,
    defined_classes,
)
from instructclf.exceptions import InvalidLabelsError, InvalidTextsError, MissingClassWarning
from tests.fixtures import LABELS, TEXTS

WORDS = ["one", "", "three é文"]
SHUFFLED = [7, 3, 5]

COLUMNS = {
    "list": list,
    "tuple": tuple,
    "object array": lambda own: np.array(own, dtype=object),
    "unicode array": np.array,
    "StringDType array": lambda own: np.array(own, dtype=np.dtypes.StringDType()),
    "column array": lambda own: np.array(own, dtype=object).reshape(-1, 1),
    "list of numpy strings": lambda own: [np.str_(text) for text in own],
    "Series": lambda own: pd.Series(own, index=SHUFFLED[: len(own)] if len(own) == 3 else None),
    "object Series": lambda own: pd.Series(own, dtype=object),
    "nullable Series": lambda own: pd.Series(own, dtype="string"),
    "Arrow Series": lambda own: pd.Series(own, dtype=pd.ArrowDtype(pa.string())),
    "categorical Series": lambda own: pd.Series(own, dtype="category"),
    "Index": pd.Index,
    "DataFrame": lambda own: pd.DataFrame({"text": own}),
    "polars Series": pl.Series,
    "polars DataFrame": lambda own: pl.DataFrame({"text": own}),
    "pyarrow array": pa.array,
    "pyarrow chunked array": lambda own: pa.chunked_array([own[:1], own[1:]]),
    "pyarrow table": lambda own: pa.table({"text": own}),
    "data set column": lambda own: datasets.Dataset.from_dict({"text": own})["text"],
    "dict values": lambda own: dict(enumerate(own)).values(),
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
    "None": (
        ["a", None],
        r"Text 1 is None \(NoneType\), expected a str\. It is a missing value: d",
    ),
    "NaN": (["a", "b", float("nan")], r"Text 2 is nan \(float\), .* a missing value: drop the row"),
    "a number inside": (["a", 3], r"Text 1 is 3 \(int\), .* convert it with str\(\) if that is me"),
    "bytes inside": ([b"a"], r"Text 0 is b'a' \(bytes\), .* bytes: decode them first"),
    "a list inside": (["a", ["b", "c"]], r"Text 1 is \['b', 'c'\] \(list\), .* its parts joined"),
    "numbers": (np.arange(3), r"Text 0 is 0 \(int\), expected a str"),
    "floats": (np.arange(3.0).reshape(-1, 1), r"Text 0 is 0\.0 \(float\), expected a str"),
    "NaN in a Series": (pd.Series(["a", None]), r"Text 1 is nan \(float\), .* a missing value"),
    "null in polars": (pl.Series(["a", None]), r"Text 1 is None \(NoneType\), .* a missing value"),
    "null in a frame": (pl.DataFrame({"a": ["a", None]}), r"Text 1 is None \(NoneType\)"),
    "null in pyarrow": (pa.array(["a", None]), r"Text 1 is None \(NoneType\), .* a missing value"),
    "empty": ([], r"Found array with 0 sample\(s\) .* Give at least one text"),
    "an empty array": (np.empty((0, 1)), r"Found array with 0 sample\(s\)"),
    "an empty frame": (pd.DataFrame({"a": []}), r"Found array with 0 sample\(s\)"),
}


# Texts


@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
def test_any_column_of_texts_is_taken(make):
    texts = check_texts(make(WORDS))
    assert texts == WORDS
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize(("X", "match"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_what_is_no_column_of_texts_is_an_error_with_a_remedy(X, match):
    with pytest.raises(InvalidTextsError, match=match):
        check_texts(X)


@pytest.mark.parametrize(
    "X",
    [pd.Series(["a", None], dtype="string"), ["a", pd.NA], pd.DataFrame({"a": ["a", pd.NA]})],
    ids=["nullable Series", "list", "DataFrame"],
)
def test_the_missing_value_of_pandas_is_a_missing_value(X):
    with pytest.raises(InvalidTextsError, match="Text 1 is (<NA>|nan) .* a missing value"):
        check_texts(X)


def test_rows_that_are_arrays_are_an_error():
    with pytest.raises(InvalidTextsError, match="Text 0 is .*ndarray.*its parts joined"):
        check_texts([np.array(["a", "b"]), np.array(["c", "d"])])


def test_half_a_character_is_an_error():
    with pytest.raises(InvalidTextsError, match=r"Text 1 .*surrogate"):
        check_texts(["a", "b\ud800"])


@pytest.mark.parametrize(("X", "match"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_classifiers_refuse_it_in_fit_and_predict(X, match, make_prompting):
    if isinstance(X, type(text for text in WORDS)):
        X = (text for text in WORDS)
    with pytest.raises(InvalidTextsError, match=match):
        make_prompting().fit(X, LABELS)
    classifier = make_prompting(n_shots=2, calibration=None).fit(TEXTS, LABELS)
    with pytest.raises(InvalidTextsError, match=match):
        classifier.predict(X)


@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
def test_classifiers_take_any_column_in_fit_and_predict(make, make_prompting):
    classifier = make_prompting(n_shots=2)
    expected = classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)
    fitted = make_prompting(n_shots=2).fit(make(TEXTS), pd.Series(LABELS, index=range(16, 0, -1)))
    np.testing.assert_array_equal(fitted.classes_, classifier.classes_)
    np.testing.assert_array_equal(fitted.predict_proba(make(TEXTS)), expected)


# Labels

LABEL_COLUMNS = {
    "int": ([3, 1, 3], [1, 3]),
    "negative int": ([0, -1, 0], [-1, 0]),
    "bool": ([True, False, True], [False, True]),
    "str": (["b", "a", "b"], ["a", "b"]),
    "float that is whole": ([2.0, 1.0, 2.0], [1.0, 2.0]),
    "object array": (np.array(["b", "a", "b"], dtype=object), ["a", "b"]),
    "Series": (pd.Series(["b", "a", "b"], index=SHUFFLED), ["a", "b"]),
    "nullable Series": (pd.Series(["b", "a", "b"], dtype="string"), ["a", "b"]),
    "nullable ints": (pd.Series([3, 1, 3], dtype="Int64"), [1, 3]),
    "categorical": (pd.Series(["b", "a", "b"], dtype="category"), ["a", "b"]),
    "polars": (pl.Series(["b", "a", "b"]), ["a", "b"]),
    "pyarrow": (pa.array(["b", "a", "b"]), ["a", "b"]),
    "chunked": (pa.chunked_array([[3, 1], [3]]), [1, 3]),
}


@pytest.mark.parametrize(("y", "expected"), LABEL_COLUMNS.values(), ids=LABEL_COLUMNS)
def test_labels_of_any_kind_are_sorted_classes(y, expected):
    classes, codes = check_labels(y, None)
    assert classes.tolist() == expected
    assert codes.tolist() == [1, 0, 1]


def test_labels_in_an_array_of_strings_are_taken():
    classes, codes = check_labels(np.array(["b", "a"], dtype=np.dtypes.StringDType()), None)
    assert classes.tolist() == ["a", "b"]
    assert codes.tolist() == [1, 0]


def test_a_label_is_named_as_it_was_given():
    with pytest.raises(InvalidLabelsError, match="every label is 'a'"):
        check_labels(["a", "a"], None)


def test_a_column_of_labels_is_taken_with_scikit_learns_warning():
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        classes, codes = check_labels(np.array([["b"], ["a"]]), None)
    assert classes.tolist() == ["a", "b"]
    assert codes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (None, r"requires y to be passed, but the target y is None\. Give one label for each text"),
        ([3, 3], "only one class is present: every label is .*3.*Give rows of two labels or more"),
        (["a", None], "Label 1 is None: Input y contains NaN or None. Drop the rows without a lab"),
        ([1.0, float("nan")], "Label 1 is nan: Input y contains NaN or None"),
        ([1.0, float("inf")], "Label 1 is inf: Input y contains infinity"),
        (pd.Series([0, 1, pd.NA], dtype="Int64"), "Label 2 is .*: Input y contains NaN"),
        (pa.array(["a", None]), "Label 1 is None: Input y contains NaN or None"),
        (pl.Series([1, None]), "Label 1 is None: Input y contains NaN or None"),
        ("ab", "y must be a sequence of labels. Got str: give a list"),
        ({"a": 1}, "y must be a sequence of labels. Got dict: give a list"),
        (3, "y must be a sequence of labels. Got 3: give a list"),
    ],
    ids=[
        "none",
        "one class",
        "None inside",
        "NaN",
        "infinity",
        "nullable",
        "pyarrow",
        "polars",
        "a str",
        "a dict",
        "a number",
    ],
)
def test_labels_that_are_none_are_an_error_with_a_remedy(y, match):
    with pytest.raises(InvalidLabelsError, match=match):
        check_labels(y, None)


def test_a_nan_among_strings_is_no_label():
    with pytest.raises(InvalidLabelsError, match="Label 1 is nan: Input y contains NaN"):
        check_labels(["a", float("nan"), "b"], None)


def test_the_missing_value_of_pandas_is_no_label():
    with pytest.raises(InvalidLabelsError, match="Label 1 is <NA>: Input y contains NaN"):
        check_labels(pd.Series(["a", pd.NA, "b"], dtype="string"), None)


@pytest.mark.parametrize(
    ("y", "match"),
    [([0.5, 1.5, 2.5], "Unknown label type: continuous"), ([["a", "b"]] * 3, "should be a 1d arr")],
    ids=["continuous", "two columns"],
)
def test_what_is_no_classification_target_is_an_error_in_scikit_learns_words(y, match):
    with pytest.raises(ValueError, match=match):
        check_labels(y, None)


# Definitions


def test_definitions_fix_the_classes():
    with pytest.warns(MissingClassWarning, match=r"names \['b'\], of which y has no row.*remove"):
        classes, codes = check_labels(["c", "a", "c"], {"c": "C.", "a": "A.", "b": "B."})
    assert classes.tolist() == ["a", "b", "c"]
    assert codes.tolist() == [2, 0, 2]


def test_one_class_in_y_will_do_where_more_are_defined():
    with pytest.warns(MissingClassWarning, match="'b'"):
        classes, _ = check_labels(["a", "a"], {"a": "A.", "b": "B."})
    assert classes.tolist() == ["a", "b"]


def test_a_definition_that_is_missing_is_an_error_that_names_the_label():
    match = r"label_definitions says nothing about \['c'\], which occur in y. It defines \['a', 'b'"
    with pytest.raises(InvalidLabelsError, match=match):
        check_labels(["a", "b", "c"], {"a": "A.", "b": "B."})


def test_definitions_of_other_types_than_the_labels_are_an_error():
    with pytest.raises(
        InvalidLabelsError, match=r"says nothing about \[0, 1\].*defines \['0', '1'"
    ):
        check_labels([0, 1], {"0": "No.", "1": "Yes."})


@pytest.mark.parametrize("definition", ["", "  ", None, 3], ids=repr)
def test_a_definition_that_is_no_sentence_is_an_error(definition):
    match = f"definition of label 'b' must be a sentence. Got {definition!r}"
    with pytest.raises(InvalidLabelsError, match=match):
        defined_classes({"a": "A.", "b": definition})


def test_definitions_of_mixed_labels_are_an_error():
    with pytest.raises(InvalidLabelsError, match=r"must be of one type. Got \['a', 1\]"):
        defined_classes({"a": "A.", 1: "B."})


# Label words


def test_words_are_the_labels_themselves_unless_named():
    assert check_label_words(np.array([1, 10]), None) == ("1", "10")
    assert check_label_words(np.array([False, True]), None) == ("False", "True")
    assert check_label_words(np.array([1, 10]), {10: "ten ", 1: " one"}) == ("one", "ten")


@pytest.mark.parametrize(
    ("verbalizer", "match"),
    [
        ({"a": "x"}, r"words for all classes \['a', 'b'\]. It names \['a'\]: add \['b'\]"),
        ({"a": "x", "b": "x "}, "labels 'a' and 'b' have the same words, 'x '. .*different ones"),
        ({"a": "x", "b": " "}, "words of label 'b' must be a text that is not empty. Got ' '"),
        ({"a": "x", "b": None}, "words of label 'b' must be a text that is not empty. Got None"),
    ],
    ids=["missing", "same", "empty", "no text"],
)
def test_words_that_do_not_fit_are_an_error(verbalizer, match):
    with pytest.raises(InvalidLabelsError, match=match):
        check_label_words(np.array(["a", "b"]), verbalizer)


def test_words_of_a_label_that_a_fold_lacks_are_not_missed():
    assert check_label_words(np.array(["a", "b"]), {"a": "x", "b": "y", "c": "z"}) == ("x", "y")


def test_labels_that_a_meta_estimator_has_numbered_get_a_hint():
    words = {"bad": "no", "good": "yes"}
    with pytest.raises(InvalidLabelsError, match=r"by number.*\{0: 'bad', 1: 'good'\}"):
        check_label_words(np.array([0, 1]), words)
    with pytest.raises(InvalidLabelsError, match=r"by number.*\{0: 'bad', 1: 'good'\}"):
        check_labels([0, 1, 1], words)


def test_labels_that_differ_by_spaces_only_have_the_same_words():
    with pytest.raises(InvalidLabelsError, match="'a' and 'a ' have the same words"):
        check_label_words(np.array(["a", "a "]), None)


def test_labels_that_differ_by_case_only_are_different():
    assert check_label_words(np.array(["A", "a"]), None) == ("A", "a")
