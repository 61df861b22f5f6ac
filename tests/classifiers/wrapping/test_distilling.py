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
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, cross_validate
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import (
    BagOfWordsClassifier,
    BlendedClassifier,
    ConformalClassifier,
    DistilledClassifier,
    OrdinalClassifier,
    SelectiveClassifier,
    load,
)
from instructclf.classifiers.wrapping.distilling import ABSTAINED, choose_surest
from instructclf.evaluation import compare
from instructclf.exceptions import InvalidLabelsError, InvalidTextsError, ScoringError

TEXTS = ["good film", "bad film", "good book", "bad book"]
LABELS = ["+", "-", "+", "-"]
UNLABELLED = ["good superb", "bad awful", "good superb", "bad film", "good grand", "bad dire dire"]


class KnowsTwoWords(LogisticRegression):
    """A teacher that is the surer, the longer a text is."""

    def fit(self, X, y):
        self.classes_, self.seen_ = np.unique(y), list(X)
        return self

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X):
        negative = np.array([0.5 + (len(x) if "bad" in x else -len(x)) / 100 for x in X])
        return np.stack([1 - negative, negative], axis=1)


@pytest.fixture
def make_student():
    def make(estimator=None, teacher=None, unlabelled=UNLABELLED, **options):
        words = make_pipeline(CountVectorizer(), MultinomialNB())
        teacher = teacher or KnowsTwoWords()
        return DistilledClassifier(estimator or words, teacher, unlabelled, **options)

    return make


def test_the_student_knows_words_that_only_unlabelled_texts_have(make_student):
    student = make_student().fit(TEXTS, LABELS)
    assert student.predict(["superb", "awful", "grand", "dire"]).tolist() == ["+", "-", "+", "-"]
    without = clone(student.estimator).fit(TEXTS, LABELS)
    assert np.allclose(without.predict_proba(["superb", "awful"]), 0.5)


def test_it_learns_from_the_surest_texts_of_each_label(make_student):
    student = make_student(n_texts_per_label=1).fit(TEXTS, LABELS)
    chosen, labels = student.pseudo_labelled_
    assert [UNLABELLED[i] for i in chosen] == ["good superb", "bad dire dire"]
    assert labels.tolist() == ["+", "-"]


def test_none_takes_every_text_once_but_for_the_labelled_ones(make_student):
    student = make_student(n_texts_per_label=None).fit(TEXTS, LABELS)
    assert student.pseudo_labelled_.positions.tolist() == [0, 1, 4, 5]
    assert student.pseudo_labelled_.labels.tolist() == ["+", "-", "+", "-"]


def test_the_teacher_learns_from_the_labelled_rows_alone(make_student):
    student = make_student().fit(TEXTS, LABELS)
    assert student.teacher_.seen_ == TEXTS
    assert not hasattr(student.teacher, "seen_")


def test_a_fitted_teacher_stays_as_it_is(make_student):
    teacher = KnowsTwoWords().fit(["bad", "good"], ["-", "+"])
    student = make_student(teacher=FrozenEstimator(teacher))
    student.fit(TEXTS, LABELS)
    assert student.teacher_.estimator is teacher
    assert teacher.seen_ == ["bad", "good"]


def test_its_probabilities_are_those_of_the_student(make_student):
    student = make_student().fit(TEXTS, LABELS)
    texts = [*TEXTS, *UNLABELLED]
    expected = student.estimator_.predict_proba(texts)
    np.testing.assert_array_equal(student.predict_proba(texts), expected)
    assert student.score(TEXTS, LABELS) == 1


def test_a_label_that_the_teacher_never_gives_keeps_its_rows(make_student):
    student = make_student(unlabelled=["good superb", "good grand"]).fit(TEXTS, LABELS)
    assert set(student.pseudo_labelled_.labels) == {"+"}
    assert student.predict(["bad book"]).tolist() == ["-"]


@pytest.mark.parametrize("labels", [[1, 0, 1, 0], [True, False, True, False]])
def test_labels_keep_their_type(labels, make_student):
    teacher = make_pipeline(TfidfVectorizer(), LogisticRegression())
    student = make_student(teacher=teacher).fit(TEXTS, labels)
    assert type(student.predict(["good"])[0]) is type(np.array(labels)[0])


def test_frames_and_series_are_texts_too(make_student):
    expected = make_student().fit(TEXTS, LABELS)
    student = make_student(unlabelled=pd.DataFrame({"text": UNLABELLED}))
    student.fit(pd.Series(TEXTS), pd.Series(LABELS))
    np.testing.assert_array_equal(student.predict_proba(TEXTS), expected.predict_proba(TEXTS))


def test_unlabelled_texts_without_a_new_one_are_an_error(make_student):
    with pytest.raises(InvalidTextsError, match="All 2 texts of unlabelled are among X"):
        make_student(unlabelled=TEXTS[:2]).fit(TEXTS, LABELS)


def test_unlabelled_texts_that_are_none_are_an_error_that_names_them(make_student):
    with pytest.raises(InvalidTextsError, match="Text 1 of unlabelled"):
        make_student(unlabelled=["fine", None]).fit(TEXTS, LABELS)


def test_a_teacher_without_probabilities_is_an_error(make_student):
    with pytest.raises(InvalidParameterError, match="'teacher' parameter"):
        make_student(teacher=CountVectorizer()).fit(TEXTS, LABELS)


def test_a_number_of_texts_below_one_is_an_error(make_student):
    with pytest.raises(InvalidParameterError, match="'n_texts_per_label' parameter"):
        make_student(n_texts_per_label=0).fit(TEXTS, LABELS)


def test_searches_reach_teacher_and_student(make_student):
    student = make_student(teacher=make_pipeline(TfidfVectorizer(), LogisticRegression()))
    grid = {"estimator__multinomialnb__alpha": [0.1, 1], "teacher__logisticregression__C": [1, 9]}
    search = GridSearchCV(student, grid, cv=2).fit(TEXTS, LABELS)
    assert len(search.cv_results_["params"]) == 4


def test_cross_validation_takes_no_part_of_the_texts(make_student):
    unlabelled = [*UNLABELLED, "bad mediocre plot", "good splendid"]
    texts, labels = TEXTS * 2, LABELS * 2
    assert len(unlabelled) == len(texts)  # as many as rows, and no rows all the same
    student = make_student(unlabelled=unlabelled, n_texts_per_label=None)
    found = cross_validate(student, texts, labels, cv=2, return_estimator=True)
    for fitted in found["estimator"]:
        assert fitted.pseudo_labelled_.positions.tolist() == [0, 1, 4, 5, 6, 7]


def test_it_is_compared_and_blended_like_any_classifier(make_student):
    texts = [f"{text} {i}" for i in range(4) for text in TEXTS]
    labels = LABELS * 4
    words = make_pipeline(TfidfVectorizer(), LogisticRegression())
    approaches = {"student": make_student(), "words": words}
    options = {"n_shots": 8, "n_seeds": 1, "random_state": 0}
    report = compare(approaches, texts, labels, TEXTS, LABELS, **options)
    assert report.scores["student"].mean == 1
    blend = BlendedClassifier(list(approaches.items()), random_state=0).fit(texts, labels)
    assert blend.predict(["superb", "dire"]).tolist() == ["+", "-"]


def test_fit_has_no_arguments_to_pass_on(make_student):
    student = make_student(make_pipeline(CountVectorizer(), MultinomialNB()))
    with sklearn.config_context(enable_metadata_routing=True):
        student.set_score_request(sample_weight=True)
        weights = {"sample_weight": np.ones(len(TEXTS))}
        found = cross_validate(student, TEXTS, LABELS, cv=2, params=weights)
    assert found["test_score"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "promising",
    [
        SelectiveClassifier(BagOfWordsClassifier(), risk=0.5),
        ConformalClassifier(BagOfWordsClassifier()),
    ],
    ids=["selective", "conformal"],
)
def test_a_student_that_promises_something_about_held_out_rows_is_an_error(promising, make_student):
    name = type(promising).__name__
    with pytest.raises(InvalidParameterError, match=f"Put the DistilledClassifier into a {name}"):
        make_student(promising).fit(TEXTS, LABELS)


def test_a_promise_around_it_is_about_labelled_rows(make_student):
    selective = SelectiveClassifier(make_student(), risk=0.5, confidence=0.5, random_state=0)
    selective.fit(TEXTS * 4, LABELS * 4)
    assert selective.predict(["superb", "dire"]).tolist() == ["+", "-"]


def test_a_fitted_teacher_with_other_labels_is_an_error(make_student):
    teacher = FrozenEstimator(KnowsTwoWords().fit(["bad", "good"], ["-", "+"]))
    with pytest.raises(InvalidLabelsError, match="the label '\\+', which is not in y, .* 0, 1"):
        make_student(teacher=teacher).fit(TEXTS, [1, 0, 1, 0])


def test_labels_are_those_of_y_where_a_fitted_teacher_has_equal_ones(make_student):
    teacher = FrozenEstimator(KnowsTwoWords().fit(["bad", "good"], [1, 0]))
    student = make_student(teacher=teacher).fit(TEXTS, [False, True, False, True])
    assert student.classes_.dtype == bool
    assert student.pseudo_labelled_.labels.dtype == bool


class Grades(KnowsTwoWords):
    """A teacher whose most probable label need not be its median."""

    def predict_proba(self, X):
        low, high = [0.4, 0.25, 0.35], [0.1, 0.15, 0.75]
        return np.array([high if "good" in x else low for x in X])


def test_the_label_is_the_one_that_the_teacher_predicts(make_student):
    teacher = OrdinalClassifier(Grades())
    student = make_student(teacher=teacher).fit(["bad", "fair", "good"], [1, 2, 3])
    assert student.pseudo_labelled_.labels.tolist() == [3, 2, 2, 3, 2]
    given = [UNLABELLED[i] for i in student.pseudo_labelled_.positions]
    assert student.teacher_.predict(given).tolist() == student.pseudo_labelled_.labels.tolist()


def test_a_tuned_threshold_of_the_teacher_counts(make_student):
    teacher = FixedThresholdClassifier(KnowsTwoWords(), threshold=0.62, pos_label="-")
    student = make_student(teacher=teacher).fit(TEXTS, LABELS)
    given = [UNLABELLED[i] for i in student.pseudo_labelled_.positions]
    labels = student.pseudo_labelled_.labels.tolist()
    assert labels == student.teacher_.predict(given).tolist()
    assert labels != student.teacher_.estimator_.predict(given).tolist()


def test_texts_that_the_teacher_leaves_open_are_left_out(make_student):
    undecided = SelectiveClassifier(KnowsTwoWords(), risk=0.5, confidence=0.5, random_state=0)
    for n_each in (None, 3):
        student = make_student(teacher=undecided, n_texts_per_label=n_each)
        student.fit(TEXTS * 4, LABELS * 4)
        student.teacher_.threshold_ = 0.6
        asked = student._ask_teacher(UNLABELLED, np.arange(6), np.array(["+", "-"]))
        assert [UNLABELLED[i] for i in asked.positions] == [
            "good superb",
            "good superb",
            "bad dire dire",
        ]


class Broken(KnowsTwoWords):
    """A teacher that overflows."""

    def predict_proba(self, X):
        return np.full((len(X), 2), np.nan)


def test_a_teacher_whose_probabilities_are_no_numbers_is_an_error(make_student):
    with pytest.raises(
        ScoringError, match=r"probabilities \[nan, nan\] for the text 'good superb'"
    ):
        make_student(teacher=Broken()).fit(TEXTS, LABELS)


def test_labels_that_do_not_fit_the_texts_are_an_error(make_student):
    with pytest.raises(InvalidLabelsError, match="4 texts in X and 3 labels in y"):
        make_student().fit(TEXTS, LABELS[:3])
    with pytest.raises(InvalidLabelsError, match="only one class"):
        make_student().fit(TEXTS, ["+"] * 4)


def test_the_student_is_saved_by_itself(make_student, tmp_path):
    student = make_student(BagOfWordsClassifier(random_state=0), n_texts_per_label=None)
    student.fit(TEXTS * 2, LABELS * 2)
    student.estimator_.save(tmp_path / "student")
    loaded = load(tmp_path / "student")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), student.predict_proba(TEXTS))


def test_of_equally_sure_rows_the_first_are_taken():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7], [0.9, 0.1]])
    given = np.array([0, 1, 0, 1, 0])
    assert choose_surest(probabilities, given, 2).tolist() == [0, 1, 2, 3]
    assert choose_surest(probabilities, given, 1).tolist() == [0, 3]
    assert choose_surest(probabilities, given, None).tolist() == [0, 1, 2, 3, 4]


def test_rows_without_a_label_are_never_chosen():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9]])
    given = np.array([0, ABSTAINED, ABSTAINED])
    assert choose_surest(probabilities, given, 5).tolist() == [0]
    assert choose_surest(probabilities, given, None).tolist() == [0]
