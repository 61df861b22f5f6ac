"""A student learns from labelled rows, and from what its teacher says about other texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import BagOfWordsClassifier, DistilledClassifier, SelectiveClassifier, load
from instructclf.classifiers.wrapping.distilling import choose_surest
from instructclf.exceptions import InvalidTextsError

TEXTS = ["good film", "bad film", "good book", "bad book"]
LABELS = ["+", "-", "+", "-"]
UNLABELLED = ["good superb", "bad awful", "good superb", "bad film", "good grand", "bad dire dire"]


class KnowsTwoWords(LogisticRegression):
    """A teacher that is the surer, the longer a text is."""

    def fit(self, X, y):
        self.classes_, self.seen_ = np.unique(y), list(X)
        return self

    def predict_proba(self, X):
        negative = np.array([0.5 + (len(x) if "bad" in x else -len(x)) / 100 for x in X])
        return np.stack([1 - negative, negative], axis=1)


@pytest.fixture
def make_student():
    def make(estimator=None, teacher=None, **options):
        words = make_pipeline(CountVectorizer(), MultinomialNB())
        return DistilledClassifier(estimator or words, teacher or KnowsTwoWords(), **options)

    return make


def test_the_student_knows_words_that_only_unlabelled_texts_have(make_student):
    student = make_student().fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    assert student.predict(["superb", "awful", "grand", "dire"]).tolist() == ["+", "-", "+", "-"]
    without = clone(student.estimator).fit(TEXTS, LABELS)
    assert np.allclose(without.predict_proba(["superb", "awful"]), 0.5)


def test_it_learns_from_the_surest_texts_of_each_label(make_student):
    student = make_student(n_texts_per_label=1).fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    chosen, labels = student.pseudo_labelled_
    assert [UNLABELLED[i] for i in chosen] == ["good superb", "bad dire dire"]
    assert labels.tolist() == ["+", "-"]


def test_none_takes_every_text_once_but_for_the_labelled_ones(make_student):
    student = make_student(n_texts_per_label=None).fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    assert student.pseudo_labelled_.positions.tolist() == [0, 1, 4, 5]
    assert student.pseudo_labelled_.labels.tolist() == ["+", "-", "+", "-"]


def test_the_teacher_learns_from_the_labelled_rows_alone(make_student):
    student = make_student().fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    assert student.teacher_.seen_ == TEXTS
    assert not hasattr(student.teacher, "seen_")


def test_a_fitted_teacher_stays_as_it_is(make_student):
    teacher = KnowsTwoWords().fit(["bad", "good"], ["-", "+"])
    student = make_student(teacher=FrozenEstimator(teacher))
    student.fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    assert student.teacher_.estimator is teacher
    assert teacher.seen_ == ["bad", "good"]


def test_its_probabilities_are_those_of_the_student(make_student):
    student = make_student().fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    texts = [*TEXTS, *UNLABELLED]
    expected = student.estimator_.predict_proba(texts)
    np.testing.assert_array_equal(student.predict_proba(texts), expected)
    assert student.score(TEXTS, LABELS) == 1


def test_a_label_that_the_teacher_never_gives_keeps_its_rows(make_student):
    student = make_student().fit(TEXTS, LABELS, unlabelled=["good superb", "good grand"])
    assert set(student.pseudo_labelled_.labels) == {"+"}
    assert student.predict(["bad book"]).tolist() == ["-"]


@pytest.mark.parametrize("labels", [[1, 0, 1, 0], [True, False, True, False]])
def test_labels_keep_their_type(labels, make_student):
    teacher = make_pipeline(TfidfVectorizer(), LogisticRegression())
    student = make_student(teacher=teacher).fit(TEXTS, labels, unlabelled=UNLABELLED)
    assert type(student.predict(["good"])[0]) is type(np.array(labels)[0])


def test_frames_and_series_are_texts_too(make_student):
    expected = make_student().fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    student = make_student().fit(
        pd.Series(TEXTS), pd.Series(LABELS), unlabelled=pd.DataFrame({"text": UNLABELLED})
    )
    np.testing.assert_array_equal(student.predict_proba(TEXTS), expected.predict_proba(TEXTS))


def test_unlabelled_texts_without_a_new_one_are_an_error(make_student):
    with pytest.raises(InvalidTextsError, match="All 2 texts of unlabelled are among X"):
        make_student().fit(TEXTS, LABELS, unlabelled=TEXTS[:2])


def test_unlabelled_texts_that_are_none_are_an_error_that_names_them(make_student):
    with pytest.raises(InvalidTextsError, match="Text 1 of unlabelled"):
        make_student().fit(TEXTS, LABELS, unlabelled=["fine", None])


def test_a_teacher_without_probabilities_is_an_error(make_student):
    with pytest.raises(InvalidParameterError, match="'teacher' parameter"):
        make_student(teacher=CountVectorizer()).fit(TEXTS, LABELS, unlabelled=UNLABELLED)


def test_a_number_of_texts_below_one_is_an_error(make_student):
    with pytest.raises(InvalidParameterError, match="'n_texts_per_label' parameter"):
        make_student(n_texts_per_label=0).fit(TEXTS, LABELS, unlabelled=UNLABELLED)


def test_searches_reach_teacher_and_student(make_student):
    student = make_student(teacher=make_pipeline(TfidfVectorizer(), LogisticRegression()))
    grid = {"estimator__multinomialnb__alpha": [0.1, 1], "teacher__logisticregression__C": [1, 9]}
    search = GridSearchCV(student, grid, cv=2).fit(TEXTS, LABELS, unlabelled=UNLABELLED)
    assert len(search.cv_results_["params"]) == 4


def test_metadata_routing_hands_the_texts_on(make_student):
    with sklearn.config_context(enable_metadata_routing=True):
        student = make_student().set_fit_request(unlabelled=True)
        found = cross_validate(student, TEXTS, LABELS, cv=2, params={"unlabelled": UNLABELLED})
    assert found["test_score"].tolist() == [1, 1]


def test_around_it_others_hold_out_rows_and_no_unlabelled_texts(make_student):
    texts, labels = TEXTS * 2, LABELS * 2
    unlabelled = [*UNLABELLED, "bad mediocre plot", "good splendid"]
    assert len(unlabelled) == len(texts)  # as many as rows, and no rows all the same
    selective = SelectiveClassifier(make_student(), risk=0.5, confidence=0.5, random_state=0)
    selective.fit(texts, labels, unlabelled=unlabelled)
    chosen = selective.estimator_.pseudo_labelled_.positions
    assert [unlabelled[i] for i in chosen][-2:] == unlabelled[-2:]


def test_the_student_is_saved_by_itself(make_student, tmp_path):
    student = make_student(BagOfWordsClassifier(random_state=0), n_texts_per_label=None)
    student.fit(TEXTS * 2, LABELS * 2, unlabelled=UNLABELLED)
    student.estimator_.save(tmp_path / "student")
    loaded = load(tmp_path / "student")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), student.predict_proba(TEXTS))


def test_of_equally_sure_rows_the_first_are_taken():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7], [0.9, 0.1]])
    assert choose_surest(probabilities, 2).tolist() == [0, 1, 2, 3]
    assert choose_surest(probabilities, 1).tolist() == [0, 3]
    assert choose_surest(probabilities, None).tolist() == [0, 1, 2, 3, 4]
