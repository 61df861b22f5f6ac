"""Labels of any type are accepted; invalid ones are an error with their position and a remedy."""

from __future__ import annotations

import enum

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.exceptions import DataConversionWarning

from instructclf.classifiers.labels import (
    check_label_words,
    defined_classes,
    find_classes,
    find_stated_labels,
    warn_of_numbers,
)
from instructclf.exceptions import InvalidLabelsError, MissingClassWarning, NumberedLabelsWarning


class Mood(str, enum.Enum):  # noqa: UP042  (whose str() is the name of a member, not its text)
    """Labels as members of an enum."""

    GLAD = "glad"
    SAD = "sad"


# Labels

LABEL_COLUMNS = {
    "int": ([3, 1, 3], [1, 3]),
    "negative int": ([0, -1, 0], [-1, 0]),
    "bool": ([True, False, True], [False, True]),
    "str": (["b", "a", "b"], ["a", "b"]),
    "float that is whole": ([2.0, 1.0, 2.0], [1.0, 2.0]),
    "object array": (np.array(["b", "a", "b"], dtype=object), ["a", "b"]),
    "Series": (pd.Series(["b", "a", "b"], index=[7, 3, 5]), ["a", "b"]),
    "nullable Series": (pd.Series(["b", "a", "b"], dtype="string"), ["a", "b"]),
    "nullable ints": (pd.Series([3, 1, 3], dtype="Int64"), [1, 3]),
    "categorical": (pd.Series(["b", "a", "b"], dtype="category"), ["a", "b"]),
    "polars": (pl.Series(["b", "a", "b"]), ["a", "b"]),
    "pyarrow": (pa.array(["b", "a", "b"]), ["a", "b"]),
    "chunked": (pa.chunked_array([[3, 1], [3]]), [1, 3]),
}


@pytest.mark.parametrize(("y", "expected"), LABEL_COLUMNS.values(), ids=LABEL_COLUMNS)
def test_labels_of_any_type_become_sorted_classes(y, expected):
    classes, codes = find_classes(y, None)
    assert classes.tolist() == expected
    assert codes.tolist() == [1, 0, 1]


def test_labels_in_an_array_of_strings_are_accepted():
    classes, codes = find_classes(np.array(["b", "a"], dtype=np.dtypes.StringDType()), None)
    assert classes.tolist() == ["a", "b"]
    assert codes.tolist() == [1, 0]


def test_an_error_shows_the_label_as_given():
    with pytest.raises(InvalidLabelsError, match="every label is 'a'"):
        find_classes(["a", "a"], None)


def test_a_column_of_labels_is_accepted_with_scikit_learns_warning():
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        classes, codes = find_classes(np.array([["b"], ["a"]]), None)
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
def test_invalid_labels_are_an_error_with_a_remedy(y, match):
    with pytest.raises(InvalidLabelsError, match=match):
        find_classes(y, None)


def test_a_nan_among_strings_is_an_error():
    with pytest.raises(InvalidLabelsError, match="Label 1 is nan: Input y contains NaN"):
        find_classes(["a", float("nan"), "b"], None)


def test_the_missing_value_of_pandas_is_an_error():
    with pytest.raises(InvalidLabelsError, match="Label 1 is <NA>: Input y contains NaN"):
        find_classes(pd.Series(["a", pd.NA, "b"], dtype="string"), None)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        ([0.0, 1.5, 2.5], r"Unknown label type: continuous. Label 1 of y is 1.5, .*into ranges"),
        ([["a", "b"]] * 3, r"1d array, got an array of shape \(3, 2\) instead. Give one label"),
    ],
    ids=["continuous", "two columns"],
)
def test_regression_targets_are_an_error_in_scikit_learns_words(y, match):
    with pytest.raises(InvalidLabelsError, match=match):
        find_classes(y, None)


# Definitions


def test_definitions_fix_the_classes():
    with pytest.warns(MissingClassWarning, match=r"names \['b'\], of which y has no row.*remove"):
        classes, codes = find_classes(["c", "a", "c"], {"c": "C.", "a": "A.", "b": "B."})
    assert classes.tolist() == ["a", "b", "c"]
    assert codes.tolist() == [2, 0, 2]


def test_one_class_in_y_is_enough_if_more_are_defined():
    with pytest.warns(MissingClassWarning, match="'b'"):
        classes, _ = find_classes(["a", "a"], {"a": "A.", "b": "B."})
    assert classes.tolist() == ["a", "b"]


def test_a_missing_definition_is_an_error_with_its_label():
    match = r"label_definitions says nothing about \['c'\], which occur in y. It defines \['a', 'b'"
    with pytest.raises(InvalidLabelsError, match=match):
        find_classes(["a", "b", "c"], {"a": "A.", "b": "B."})


def test_definitions_of_another_type_than_the_labels_are_an_error():
    with pytest.raises(
        InvalidLabelsError, match=r"says nothing about \[0, 1\].*defines \['0', '1'"
    ):
        find_classes([0, 1], {"0": "No.", "1": "Yes."})


@pytest.mark.parametrize("definition", ["", "  ", None, 3], ids=repr)
def test_an_empty_definition_is_an_error(definition):
    match = f"definition of label 'b' must be a sentence. Got {definition!r}"
    with pytest.raises(InvalidLabelsError, match=match):
        defined_classes({"a": "A.", "b": definition})


def test_definitions_of_mixed_labels_are_an_error():
    with pytest.raises(InvalidLabelsError, match=r"Label 1 of label_definitions is 1 \(int\)"):
        defined_classes({"a": "A.", 1: "B."})


def test_a_misspelled_definition_is_named_with_its_label():
    match = r"says nothing about \['positive'\].* Did you mean 'positive' instead of 'Postive'\?"
    with pytest.raises(InvalidLabelsError, match=match):
        find_classes(["negative", "positive"], {"negative": "No.", "Postive": "Yes."})


def test_a_misspelled_label_in_y_is_named_with_its_definition():
    with pytest.raises(InvalidLabelsError, match=r"Did you mean 'good' instead of 'goood'\?"):
        find_classes(["bad", "good", "goood"], {"bad": "No.", "good": "Yes."})


def test_definitions_may_name_the_members_of_an_enum():
    classes, codes = find_classes(["sad", "glad"], {Mood.GLAD: "Yes.", Mood.SAD: "No."})
    assert classes.tolist() == ["glad", "sad"] == [Mood.GLAD, Mood.SAD]
    assert codes.tolist() == [1, 0]


@pytest.mark.parametrize("labels", [None, []], ids=str)
def test_no_labels_are_stated_without_labels(labels):
    assert find_stated_labels(labels, None).tolist() == []


def test_stated_labels_are_of_one_kind():
    assert find_stated_labels([Mood.SAD, Mood.GLAD], None).tolist() == ["glad", "sad"]
    with pytest.raises(InvalidLabelsError, match=r"Label 1 of labels is 1 \(int\), and label 0 is"):
        find_stated_labels(["a", 1], None)


# Label words


def test_the_default_words_are_the_labels():
    assert check_label_words(np.array([1, 10]), None) == (("1",), ("10",))
    assert check_label_words(np.array([False, True]), None) == (("False",), ("True",))
    words = {10: "ten ", 1: " one"}
    assert check_label_words(np.array([1, 10]), words) == (("one",), ("ten",))


def test_a_list_of_words_is_several_answers():
    words = {"a": ["x ", "y"], "b": ("z",)}
    assert check_label_words(np.array(["a", "b"]), words) == (("x", "y"), ("z",))


@pytest.mark.parametrize(
    ("verbalizer", "match"),
    [
        ({"a": "x"}, r"words for all classes \['a', 'b'\]. It names \['a'\]: add \['b'\]"),
        ({"a": "x", "b": "x "}, "labels 'a' and 'b' have the same words, 'x'. .*different ones"),
        ({"a": "x", "b": ["y", "x"]}, "labels 'a' and 'b' have the same words, 'x'"),
        ({"a": ["x", "x"], "b": "y"}, "labels 'a' and 'a' have the same words, 'x'"),
        ({"a": "x", "b": " "}, "words of label 'b' must be a text that is not empty.* Got ' '"),
        ({"a": "x", "b": None}, "words of label 'b' must be a text that is not empty.* Got None"),
        ({"a": "x", "b": []}, "words of label 'b' must be a text.*list of such texts. Got \\[]"),
        ({"a": "x", "B": "y"}, r"add \['b'\]. Did you mean 'b' instead of 'B'\?"),
    ],
    ids=["missing", "same", "same in a list", "twice", "empty", "no text", "no answers", "typo"],
)
def test_invalid_words_are_an_error(verbalizer, match):
    with pytest.raises(InvalidLabelsError, match=match):
        check_label_words(np.array(["a", "b"]), verbalizer)


def test_words_of_a_label_that_a_fold_lacks_are_ignored():
    assert check_label_words(np.array(["a", "b"]), {"a": "x", "b": "y", "c": "z"}) == (
        ("x",),
        ("y",),
    )


def test_labels_numbered_by_a_meta_estimator_get_a_hint():
    words = {"bad": "no", "good": "yes"}
    with pytest.raises(InvalidLabelsError, match=r"by number.*\{0: 'no', 1: 'yes'\}"):
        check_label_words(np.array([0, 1]), words)
    with pytest.raises(InvalidLabelsError, match=r"by number.*\{0: 'bad', 1: 'good'\}"):
        find_classes([0, 1, 1], words)


def test_labels_that_differ_by_spaces_only_have_the_same_words():
    with pytest.raises(InvalidLabelsError, match="'a' and 'a ' have the same words"):
        check_label_words(np.array(["a", "a "]), None)


def test_labels_that_differ_by_case_only_are_different():
    assert check_label_words(np.array(["A", "a"]), None) == (("A",), ("a",))


# Numbers


@pytest.mark.parametrize(
    ("labels", "example"),
    [
        ([0, 1], "{0: '...', 1: '...'}"),
        ([-1, 2, 5], "{-1: '...', 2: '...', ...}"),
        (["0", "1"], "{'0': '...', '1': '...'}"),
        ([1.0, 2.0], "{1.0: '...', 2.0: '...'}"),
    ],
    ids=str,
)
def test_numeric_labels_give_a_warning_with_an_example(labels, example):
    with pytest.warns(NumberedLabelsWarning, match="nothing says what they mean") as warned:
        warn_of_numbers(np.array(labels))
    assert str(warned[0].message).count(example) == 2


@pytest.mark.parametrize("labels", [["a", "b"], [False, True], ["1", "b"], ["v1", "v2"]], ids=str)
def test_other_labels_give_no_warning(labels):
    warn_of_numbers(np.array(labels))
