"""Rows of each label, and rounds over them."""

from __future__ import annotations

from itertools import count

import numpy as np

from instructclf.sampling.rows import different_rows, take_in_rounds


def test_each_label_has_its_different_texts_in_the_order_of_the_texts():
    rows = different_rows(["b", "c", "a", "b", "c"], ["y", "x", "y", "y", "y"])
    assert [group.tolist() for group in rows.groups] == [[1], [2, 0, 4]]
    assert rows.sizes == [1, 3]
    assert rows.indices.tolist() == [1, 2, 0, 4]


def test_one_text_with_two_labels_is_a_row_of_each():
    rows = different_rows(["a", "a"], [0, 1])
    assert [group.tolist() for group in rows.groups] == [[0], [1]]


def test_a_round_takes_one_row_of_every_label_that_has_one_left():
    queues = [[10, 11, 12], [20], [30, 31]]
    taken = take_in_rounds(queues, [3, 1, 2], 6, np.random.RandomState(0)).tolist()
    assert set(taken[:3]) == {10, 20, 30}
    assert set(taken[3:5]) == {11, 31}
    assert taken[5:] == [12]


def test_a_queue_is_read_no_further_than_needed():
    read = []
    queue = (read.append(i) or i for i in count())
    take_in_rounds([queue, [100, 101, 102]], [10**9, 3], 4, np.random.RandomState(0))
    assert read == [0, 1]
