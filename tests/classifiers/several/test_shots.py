"""Shots that show every answer of several questions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from instructclf.classifiers.several.shots import AnswersSampler
from instructclf.exceptions import InvalidShotsError

TEXTS = [f"text {number}" for number in range(30)]
CODES = np.random.RandomState(0).randint(0, 2, size=(30, 4))


def draw(codes=CODES, texts=TEXTS, n_shots=8, seed=0):
    return AnswersSampler(codes).select(texts, np.zeros(len(texts)), n_shots, random_state=seed)


def test_a_rare_answer_is_shown_early():
    codes = np.zeros((30, 4), dtype=int)
    codes[17, 2] = codes[21, 3] = 1
    assert {17, 21} <= set(draw(codes, n_shots=3))


def test_answers_are_shown_about_equally_often():
    shown = CODES[draw()].mean(axis=0)
    assert (abs(shown - 0.5) <= 0.25).all()


def test_fewer_shots_are_the_beginning_of_more():
    assert_array_equal(draw(n_shots=4), draw(n_shots=8)[:4])
    assert not np.array_equal(draw(seed=1), draw(seed=0))


def test_equal_rows_count_once_and_their_order_does_not_matter():
    texts, codes = [*TEXTS, *TEXTS], np.vstack([CODES, CODES])
    assert_array_equal(draw(codes, texts), draw())
    backwards = draw(CODES[::-1], TEXTS[::-1])
    assert_array_equal(29 - backwards, draw())
    with pytest.raises(InvalidShotsError, match="n_shots=31 is more than the 30 different"):
        draw(codes, texts, n_shots=31)
