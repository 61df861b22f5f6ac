"""A list names the labels of a text, in an order that favours none of them."""

from __future__ import annotations

from collections import Counter

import pytest

from instructclf.classifiers.several.lines import ListLine


def make_list(*names, is_only=True):
    """Return a list of labels, each of which is a column."""
    return ListLine(tuple(range(len(names))), names, (None,) * len(names), is_only)


def test_each_label_comes_first_about_equally_often():
    line = make_list("late", "refund", "praise")
    first = Counter(line.write(f"text {i}", [1, 1, 1]).split(", ")[0] for i in range(3000))
    assert all(900 < first[name] < 1100 for name in line.names)


def test_the_order_of_two_labels_does_not_depend_on_a_third():
    line = make_list("late", "refund", "praise")
    for text in (f"text {i}" for i in range(50)):
        three = line.write(text, [1, 1, 1]).split(", ")
        assert line.write(text, [1, 0, 1]).split(", ") == [n for n in three if n != "refund"]


def test_a_list_may_be_of_a_text_that_is_no_utf_8():
    assert make_list("late").write("\\ud800", [1]) == "late"


@pytest.mark.parametrize(
    ("names", "word"),
    [(["late"], "none"), (["none"], "nothing"), (["none", "nothing"], "no label")],
)
def test_a_list_without_labels_says_a_word_that_is_no_label(names, word):
    line = make_list(*names)
    assert line.write("text", [0] * len(names)) == word
    assert line.label_words[-1] == (word,)
    assert f"or {word}: {', '.join(names)}." in line.statement


def test_a_label_that_begins_another_ends_with_the_list_or_a_comma():
    line = make_list("late", "late fee", is_only=False)
    words = (("labels: late", "labels: late,"), ("labels: late fee",), ("labels: none",))
    assert line.label_words == words
