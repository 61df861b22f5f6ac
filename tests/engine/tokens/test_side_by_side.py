"""What prompts of one label each do not share is read side by side."""

from __future__ import annotations

import pytest

from instructclf.engine.tokens.side_by_side import SideBySide, find_side_by_side
from instructclf.exceptions import InvalidTemplateError

START, END = [1, 2], [8, 9]
LISTED = [*START, 3, 7, 4, 4, *END]


def test_tokens_between_the_shared_beginning_and_end_belong_to_labels():
    found = find_side_by_side(LISTED, [[*START, 4, 4, *END], [*START, 3, *END]], [*LISTED[:7], 5])
    assert found == SideBySide(start=2, stop=6, sequences=((3,), (4, 4)))


def test_words_that_all_labels_begin_or_end_with_are_read_once():
    listed = [*START, 5, 3, 6, 7, 5, 4, 6, *END]
    alone = [[*START, 5, 3, 6, *END], [*START, 5, 4, 6, *END]]
    assert find_side_by_side(listed, alone, listed) == SideBySide(3, 8, ((3,), (4,)))


def test_a_label_that_ends_another_keeps_a_token_of_its_own():
    listed = [*START, 3, 4, 7, 4, *END]
    alone = [[*START, 3, 4, *END], [*START, 4, *END]]
    assert find_side_by_side(listed, alone, listed) == SideBySide(2, 6, ((3, 4), (4,)))


def test_the_order_of_labels_does_not_matter():
    alone = [[*START, 3, *END], [*START, 4, 4, *END]]
    found, other = (find_side_by_side(LISTED, one, LISTED) for one in (alone, alone[::-1]))
    assert found == other


def test_labels_that_are_not_in_the_beginning_of_all_prompts_are_an_error():
    with pytest.raises(InvalidTemplateError, match="states the labels before any text"):
        find_side_by_side(LISTED, [[*START, 3, *END], [*START, 4, 4, *END]], LISTED[:4])
