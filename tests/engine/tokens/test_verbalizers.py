"""The likelihoods of a class's answers add up."""

from __future__ import annotations

import numpy as np
import pytest

from instructclf.engine.tokens.verbalizers import Verbalizer

SEVERAL = Verbalizer([("good", "great"), "bad", ("so-so", "mixed", "fine")])
ONE_EACH = Verbalizer(["good", ("bad",)])


def test_a_string_is_a_single_answer():
    assert ONE_EACH.classes == (("good",), ("bad",))
    assert Verbalizer([["good"], ["bad"]]).classes == ONE_EACH.classes


def test_answers_are_listed_class_after_class():
    assert SEVERAL.answers == ("good", "great", "bad", "so-so", "mixed", "fine")
    assert SEVERAL.positions == ((0, 1), (2,), (3, 4, 5))


def test_the_first_answer_of_a_class_is_preferred():
    assert SEVERAL.preferred == ("good", "bad", "so-so")


def test_every_position_leads_to_an_answer_of_its_class():
    for answers, positions in zip(SEVERAL.classes, SEVERAL.positions, strict=True):
        assert tuple(SEVERAL.answers[position] for position in positions) == answers


@pytest.mark.parametrize("n_texts", [0, 1, 5])
def test_the_score_of_a_class_is_the_log_of_the_sum_over_its_answers(n_texts):
    scores = np.random.default_rng(0).normal(-3, 1, (n_texts, 6))
    likelihoods = np.exp(scores)
    sums = [likelihoods[:, list(positions)].sum(axis=1) for positions in SEVERAL.positions]
    found = SEVERAL.sum_answers(scores)
    assert found.shape == (n_texts, 3)
    np.testing.assert_allclose(found, np.log(np.transpose(sums)), rtol=1e-12)


def test_answers_that_are_too_unlikely_for_a_float_still_add_up():
    found = SEVERAL.sum_answers(np.full((1, 6), -5000.0))
    np.testing.assert_allclose(found, -5000 + np.log([[2, 1, 3]]))


def test_with_one_answer_a_class_scores_stay_as_they_are():
    scores = np.array([[-1.0, -2.0]])
    assert ONE_EACH.sum_answers(scores) is scores
