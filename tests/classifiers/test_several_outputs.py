"""Several questions about one text: what is scored, what `y` may be, what scikit-learn does."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from instructclf import MultiOutputPromptClassifier
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError
from tests.fixtures import LABELS, TEXTS

LENGTHS = np.where(np.arange(len(TEXTS)) % 3 == 0, "long", "short")
BOTH = np.column_stack([LABELS, LENGTHS])
INDICATORS = np.column_stack([np.arange(len(TEXTS)) % 2, np.arange(len(TEXTS)) % 3 == 0]).astype(
    int
)
FOLDS = KFold(2, shuffle=True, random_state=0)


def make(**parameters):
    chosen = {"n_shots": 4, "questions": ["opinion", "length"], "random_state": 0}
    return MultiOutputPromptClassifier(**(chosen | parameters))


@pytest.fixture(scope="module")
def fitted():
    return make().fit(TEXTS, BOTH)


def test_each_question_has_probabilities_of_its_own(fitted):
    opinion, length = fitted.predict_proba(TEXTS[:3])
    assert opinion.shape == length.shape == (3, 2)
    assert_allclose([opinion.sum(axis=1), length.sum(axis=1)], 1)
    assert [own.tolist() for own in fitted.classes_] == [
        ["negative", "positive"],
        ["long", "short"],
    ]
    assert fitted.predict(TEXTS[:3]).shape == (3, 2)


def test_the_prompt_states_all_questions_and_solves_them_in_every_shot(fitted):
    prompt = fitted.get_prompt("Meh.")
    assert "opinion: negative, positive\nlength: long, short" in prompt
    first = fitted.shots_[0]
    assert (
        f"{TEXTS[first]}\n\n### Response:\nopinion: {LABELS[first]}\nlength: {LENGTHS[first]}"
        in prompt
    )


def test_a_question_asked_alone_is_answered_as_beside_others():
    classifier = make(calibration=None).fit(TEXTS, BOTH)
    alone = replace(classifier.question_, label_words=classifier.question_.label_words[2:])
    scores = classifier.open_model().label_scorer(alone).score(TEXTS[:4])
    assert_allclose(
        classifier.predict_log_proba(TEXTS[:4])[1], log_softmax(scores, axis=1), atol=1e-5
    )


def test_columns_of_0_and_1_are_answered_with_no_and_yes():
    classifier = make(questions=None).fit(TEXTS, INDICATORS)
    assert "question 2: no, yes" in classifier.get_prompt("Meh.")
    predicted = classifier.predict(TEXTS)
    assert predicted.dtype.kind == "i"
    assert set(predicted.ravel()) <= {0, 1}


def test_shots_show_every_answer_before_any_is_repeated_often():
    rare = np.array(["often"] * (len(TEXTS) - 1) + ["once"])
    classifier = make(n_shots=3).fit(TEXTS, np.column_stack([LABELS, rare]))
    assert len(TEXTS) - 1 in classifier.shots_


@pytest.mark.parametrize(
    ("y", "parameters", "message"),
    [
        (LABELS, {}, "must be of shape"),
        (BOTH, {"questions": ["opinion"]}, "each of the 2 columns"),
        (BOTH, {"questions": ["opinion", "opinion"]}, "once"),
        (np.column_stack([LABELS, ["same"] * len(TEXTS)]), {}, "only one class"),
    ],
)
def test_a_wrong_y_is_a_clear_error(y, parameters, message):
    with pytest.raises(InvalidLabelsError, match=message):
        make(**parameters).fit(TEXTS, y)


def test_more_shots_than_rows_are_an_error():
    with pytest.raises(InvalidShotsError, match="n_shots=99"):
        make(n_shots=99).fit(TEXTS, BOTH)


def test_a_clone_and_a_pickle_predict_the_same(fitted):
    expected = fitted.predict_proba(TEXTS[:3])
    again = clone(fitted).fit(TEXTS, BOTH).predict_proba(TEXTS[:3])
    unpickled = pickle.loads(pickle.dumps(fitted)).predict_proba(TEXTS[:3])
    for column, own in enumerate(expected):
        assert_allclose(again[column], own, atol=1e-6)
        assert_allclose(unpickled[column], own, atol=1e-6)


def test_threads_predict_the_same(fitted):
    expected = fitted.predict(TEXTS)
    with ThreadPoolExecutor(4) as threads:
        for predicted in threads.map(fitted.predict, [TEXTS] * 4):
            assert_array_equal(predicted, expected)


def test_scikit_learn_searches_and_validates_it():
    search = GridSearchCV(make(), {"n_shots": [2, 4]}, cv=FOLDS).fit(TEXTS, BOTH)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert np.isfinite(cross_validate(make(), TEXTS, BOTH, cv=FOLDS)["test_score"]).all()
