"""``y`` of every kind becomes the same columns of labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array

from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.label_tables import read_label_table

ROWS = [["good", 1], ["bad", 0], ["good", 0]]
LABELS = [["b", "a"], [], ["b"]]
INDICATORS = [[1, 1], [0, 0], [0, 1]]
NAMED = pd.DataFrame(ROWS, columns=["opinion", "refund"])


@pytest.mark.parametrize(
    "y",
    [ROWS, list(map(tuple, ROWS)), np.array(ROWS, dtype=object), NAMED, pl.from_pandas(NAMED)],
    ids=["lists", "tuples", "array", "pandas", "polars"],
)
def test_tables_of_all_kinds_have_the_same_columns(y):
    table = read_label_table(y)
    assert [column.tolist() for column in table.columns] == [["good", "bad", "good"], [1, 0, 0]]
    assert [column.dtype.kind for column in table.columns] == ["U", "i"]


@pytest.mark.parametrize(
    "y", [np.array(INDICATORS), csr_array(INDICATORS)], ids=["dense", "sparse"]
)
def test_indicator_matrices_may_be_sparse(y):
    table = read_label_table(y)
    assert_array_equal(np.column_stack(table.columns), INDICATORS)
    assert table.names.tolist() == ["question 1", "question 2"]


def test_a_data_frame_names_its_columns():
    assert read_label_table(NAMED).names.tolist() == ["opinion", "refund"]
    assert read_label_table(NAMED, ["a", "b"]).names.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "y",
    [LABELS, list(map(set, LABELS)), pd.Series(LABELS), pl.Series(LABELS)],
    ids=["lists", "sets", "pandas", "polars"],
)
def test_labels_of_each_text_become_columns_of_0_and_1(y):
    table = read_label_table(y)
    assert table.names.tolist() == ["a", "b"]
    assert_array_equal(np.column_stack(table.columns), INDICATORS)


def test_names_decide_the_order_of_labels_and_may_be_numbers():
    table = read_label_table([[3], [1, 2], []], [3, 2, 1, 4])
    assert table.names.tolist() == [3, 2, 1, 4]
    assert_array_equal(np.column_stack(table.columns), [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])


def test_sets_of_equal_size_are_labels_and_lists_of_equal_length_a_table():
    assert read_label_table([{"a"}, {"b"}]).names.tolist() == ["a", "b"]
    assert read_label_table([["a"], ["b"]]).names.tolist() == ["question 1"]
    assert read_label_table(pd.Series([["a"], ["b"]])).names.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("y", "names", "message"),
    [
        (["good", "bad"], None, "a column for each question.*Got list"),
        (np.array([1, 0]), None, r"Got ndarray of shape \(2,\).*use PromptClassifier"),
        (None, None, "Got NoneType"),
        ("good", None, "Got str"),
        ([], None, "Got list"),
        (np.zeros((2, 2, 2)), None, r"of shape \(2, 2, 2\)"),
        ([[], []], None, "No text in y has a label"),
        (ROWS, ["opinion"], r"questions=\['opinion'\] must name each of the 2 columns"),
        (ROWS, ["a", "a"], "'a' is there twice"),
        (ROWS, ["a", " "], "' ' is no name"),
        ([["good", None], ["bad", "x"]], ["a", "b"], "column 'b' of y contains NaN or None"),
        ([["a", "b"], ["c"]], ["a", "b"], "label 'c', and questions=.* does not name it"),
        ([["a", "b"], [1]], None, "of one kind|all of one kind"),
        ([["a", "b"], [None]], None, "entry 1 of y contains NaN or None"),
    ],
)
def test_anything_else_is_a_clear_error(y, names, message):
    with pytest.raises(InvalidLabelsError, match=message):
        read_label_table(y, names)
