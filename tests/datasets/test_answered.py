"""Answers keep their kind: 0 and 1 are numbers, all else is text, and lists may be empty."""

from __future__ import annotations

import pytest

from instructclf.datasets.answered import AnswerColumns, take_answered
from instructclf.datasets.tables import Row


def take(columns, *values, known=None, name="file"):
    """Return the answers in rows of these values."""
    rows = [Row(f"row {i}", {"text": "a", **own}) for i, own in enumerate(values)]
    return take_answered(name, rows, "text", columns, known)


def label_columns(*names):
    """Return columns with one label a row."""
    return AnswerColumns(names, {}, ";")


LISTS = AnswerColumns((), {"topics": ()}, ";")


@pytest.mark.parametrize("cells", [(0, 1), ("0", "1"), (False, True), ("False", "True")])
def test_a_column_of_0_and_1_holds_numbers(cells):
    found = take(label_columns("a"), *({"a": cell} for cell in cells))
    assert found.columns == {"a": [0, 1]}


def test_another_number_makes_all_of_a_column_text():
    assert take(label_columns("a"), {"a": 0}, {"a": 2}).columns == {"a": ["0", "2"]}


def test_rows_have_the_kind_of_those_that_are_known():
    known = take(label_columns("a", "b"), {"a": 0, "b": 1}, {"a": 2, "b": 0})
    found = take(label_columns("a", "b"), {"a": 0, "b": 1}, {"a": 1, "b": 1}, known=known)
    assert found.columns == {"a": ["0", "1"], "b": [1, 1]}


@pytest.mark.parametrize(
    "cell",
    [["late", "price"], "late;price", " late ; price;", '["late", "price"]', "['late', 'price']"],
)
def test_a_list_may_be_a_text(cell):
    found = take(LISTS, {"topics": cell}, {"topics": None}, {"topics": ""}, {"topics": []})
    assert found.questions == {"topics": ["late", "price"]}
    assert found.labels == [[1, 1], [0, 0], [0, 0], [0, 0]]
    assert (found.names, len(found)) == (["late", "price"], 4)


def test_labels_in_lists_are_texts():
    assert take(LISTS, {"topics": [3, "b"]}).names == ["3", "b"]


def test_known_rows_and_definitions_decide_which_labels_there_are():
    known = take(AnswerColumns((), {"topics": ["size"]}, ";"), {"topics": ["late", "price"]})
    assert known.names == ["late", "price", "size"]
    assert take(LISTS, {"topics": ["price"]}, known=known).labels == [[0, 1, 0]]
