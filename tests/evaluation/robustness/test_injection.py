"""How often a text gets the label that it asks for, counted by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from instructclf.evaluation import InjectionReport, injection_report
from instructclf.exceptions import InvalidLabelsError, InvalidTextsError
from instructclf.prompts.attacks import ATTACKS
from tests.fixtures import LABELS, TEXTS

ASKED = re.compile("|".join(("negative", "neutral", "positive")))


class Obeys(ClassifierMixin, BaseEstimator):
    """Answers with the last label that a text names, and with the first where it names none."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.array([(ASKED.findall(text) or [self.classes_[0]])[-1] for text in X])


class Knows(Obeys):
    """Answers according to one ordinary word, and ignores what a text asks for."""

    def predict(self, X):
        return np.array(["positive" if "good" in text else "negative" for text in X])


TRUE = ["negative", "positive", "neutral"]


@pytest.fixture(scope="module")
def obeyed():
    classifier = Obeys().fit(["a", "b", "c"], TRUE)
    return injection_report(classifier, ["one", "two", "three"], TRUE)


def test_a_classifier_that_obeys_gives_every_text_what_it_asks_for(obeyed):
    assert obeyed.targets.tolist() == ["neutral", "negative", "positive"]
    clean, *attacked = obeyed.to_rows()
    assert [row["attack"] for row in attacked] == list(ATTACKS)
    for row in attacked:
        assert (row["accuracy"], row["won"]) == (0, 1)
        assert row["changed"] == pytest.approx(2 / 3)
    assert obeyed.clean_accuracy == clean["accuracy"] == pytest.approx(1 / 3)
    assert clean["won"] == pytest.approx(1 / 3)
    assert clean["changed"] == obeyed.attacked_accuracy == 0


def test_a_classifier_that_knows_better_loses_nothing():
    texts, labels = ["good", "bad"], ["positive", "negative"]
    report = injection_report(Knows().fit(texts, labels), texts, labels)
    assert report.clean_accuracy == report.attacked_accuracy == 1
    assert {row["won"] for row in report.to_rows()} == {0}


def test_no_text_asks_for_its_own_label():
    texts, labels = [f"text {i}" for i in range(6)], TRUE * 2
    report = injection_report(Obeys().fit(texts, labels), texts, labels)
    assert not (report.targets == report.y).any()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_every_attack_names_the_label_and_keeps_the_text(attack):
    attacked = attack.apply("The {label} text.", "negative")
    assert "The {label} text." in attacked
    assert "negative" in attacked.replace("The {label} text.", "")


def test_a_report_is_a_table_in_every_form(obeyed):
    text, markdown, html = str(obeyed), obeyed.to_markdown(), obeyed._repr_html_()
    assert text.splitlines()[0].split("  ")[0] == "attack"
    for name in ("none", *ATTACKS):
        assert f"\n{name} " in text
        assert f"\n| {name} " in markdown
        assert f">{name}</th>" in html
    for form in (text, markdown, html):
        assert "3 texts, each made to ask for a label that is not the true one. Mean" in form
    assert 'aria-label="Attacks"' in html
    frame = obeyed.to_frame()
    assert frame.to_dict("records") == obeyed.to_rows()
    assert list(frame) == ["attack", "accuracy", "won", "changed", "n_texts"]


def test_words_of_labels_are_asked_for_where_a_classifier_has_some(make_prompting):
    words = {0: "negative", 1: "positive"}
    labels = [int(label == "positive") for label in LABELS]
    classifier = make_prompting(verbalizer=words).fit(TEXTS, labels)
    report = injection_report(classifier, TEXTS[:3], labels[:3])
    assert isinstance(report, InjectionReport)
    assert report.targets.tolist() == [0, 0, 0]
    expected = ATTACKS["label flood"].apply(TEXTS[0], "negative")
    assert report.predictions["label flood"][0] == classifier.predict([expected])[0]


def test_labels_that_a_classifier_does_not_know_are_an_error():
    classifier = Obeys().fit(["a", "b"], ["negative", "positive"])
    with pytest.raises(InvalidLabelsError, match=r"Label 1 of y is 'mixed', which .* classes are"):
        injection_report(classifier, ["a", "b"], ["positive", "mixed"])


def test_a_label_for_each_text_is_needed():
    with pytest.raises(InvalidLabelsError, match="1 texts in X and 2 labels in y"):
        injection_report(Obeys().fit(["a", "b"], ["x", "y"]), ["a"], ["x", "y"])


def test_progress_names_the_attacks(capsys):
    injection_report(Obeys().fit(["a", "b"], ["x", "y"]), ["a"], ["x"], verbose=1)
    err = capsys.readouterr().err
    assert "11/11" in err
    assert "threat" in err


def test_texts_are_checked():
    with pytest.raises(InvalidTextsError, match=r"Text 0 is 1 \(int\), expected a str"):
        injection_report(Obeys().fit(["a", "b"], ["x", "y"]), [1], ["x"])


def test_an_unfitted_classifier_is_an_error():
    with pytest.raises(NotFittedError, match="not fitted"):
        injection_report(Obeys(), ["a"], ["x"])
