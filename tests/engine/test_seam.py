"""Classifiers on engines of a dozen lines, without torch, tokens or weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.engine.interfaces import FilledPrompt, Question, Tuned
from tests.fixtures import LABELS, TEXTS


@dataclass
class UniformModel:
    """A language model that finds all labels equally likely. It is its own scorer."""

    question: Question | None = None
    name, context_length = "uniform", None

    def protect(self, prompt):
        return prompt

    def fit_demonstrations(self, question, texts):
        return question

    def label_scorer(self, question, adapter=None):
        return type(self)(question)

    def score(self, texts, progress=None, *, relative=False):
        n_labels = len(self.question.label_words)
        return np.full((len(texts), n_labels), -math.log(n_labels))

    def score_demonstrations(self, *, relative=False):
        return self.score([text for text, _ in self.question.prompt.demonstrations])

    def fill_prompt(self, text):
        return FilledPrompt(self.question.prompt, text, n_tokens=0)


class WordModel(UniformModel):
    """Finds a label likelier, the more of its demonstrations have the first word of a text."""

    def score(self, texts, progress=None, *, relative=False):
        question = self.question
        shots = [question.prompt.demonstrations] * len(texts)
        if question.demonstrations_for is not None:
            shots = question.demonstrations_for(texts)
        counts = [
            [count(text, words[0], shown) for words in question.label_words]
            for text, shown in zip(texts, shots, strict=True)
        ]
        return np.array(counts) - np.logaddexp.reduce(counts, axis=1, keepdims=True)


def count(text, words, shots):
    return sum(answer == words and text.split()[0] in shot for shot, answer in shots)


class TunableModel(WordModel):
    """Memorises the rows of tuning as demonstrations, and calls them an adapter."""

    def label_scorer(self, question, adapter=None):
        scorer = super().label_scorer(question)
        if adapter is not None:
            prompt = question.prompt.with_demonstrations(adapter.weights)
            scorer.question = Question(prompt, question.label_words, None)
        return scorer

    def tune(self, question, rows, **settings):
        words = [question.label_words[code][0] for code in rows.codes]
        adapter = SimpleNamespace(weights=tuple(zip(rows.texts, words, strict=True)))
        record = SimpleNamespace(loss_curve=[0.5], stopped_by="max_epochs")
        return Tuned(adapter, record, self.label_scorer(question, adapter))


@pytest.fixture(params=[UniformModel, WordModel])
def model(request):
    return request.param()


def test_a_classifier_is_fitted_and_predicts(model):
    classifier = PromptClassifier(model, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    assert classifier.classes_.tolist() == ["negative", "positive"]
    assert len(classifier.shots_) == 4
    np.testing.assert_allclose(classifier.predict_proba(TEXTS).sum(axis=1), 1)
    np.testing.assert_allclose(classifier.label_mass(TEXTS), 1)
    expected = LABELS if isinstance(model, WordModel) else ["negative"] * 16
    assert classifier.predict(TEXTS).tolist() == expected


@pytest.mark.parametrize("n_shots", [4, None], ids=["rows that are not shots", "shots"])
def test_rows_calibrate(n_shots):
    classifier = PromptClassifier(WordModel(), n_shots=n_shots, random_state=0).fit(TEXTS, LABELS)
    assert classifier.calibration_.n_rows == (12 if n_shots else 16)
    assert classifier.predict(TEXTS).tolist() == LABELS


def test_several_seeds_are_averaged():
    classifier = PromptClassifier(WordModel(), n_shots=4, n_seeds=3, random_state=0)
    classifier.fit(TEXTS, LABELS)
    assert len({tuple(member.shots_) for member in classifier.estimators_}) == 3
    assert classifier.predict(TEXTS).tolist() == LABELS


def test_shots_are_chosen_for_each_text():
    classifier = PromptClassifier(WordModel(), n_shots=4, sampler="knn").fit(TEXTS, LABELS)
    assert classifier.predict(TEXTS).tolist() == LABELS
    assert TEXTS[classifier.shots_for(["bad thing 5"])[0][-1]] == "bad thing 5"


def test_a_clone_shares_the_model(model):
    classifier = PromptClassifier(model, n_shots=4, random_state=0)
    copy = clone(classifier.fit(TEXTS, LABELS))
    assert copy.model is model
    expected = classifier.predict_proba(TEXTS)
    np.testing.assert_array_equal(copy.fit(TEXTS, LABELS).predict_proba(TEXTS), expected)


def test_cross_validation():
    classifier = PromptClassifier(WordModel(), n_shots=4, random_state=0)
    assert cross_val_score(classifier, TEXTS, LABELS, cv=2).tolist() == [1.0, 1.0]


def test_the_prompt_is_shown(model):
    classifier = PromptClassifier(model, n_shots=2, random_state=0).fit(TEXTS, LABELS)
    assert classifier.get_prompt("good thing 9").endswith("good thing 9\n\n### Response:\n")
    assert "good thing 9" in str(classifier.show_prompt("good thing 9"))


def test_an_adapter_is_tuned_and_scores():
    tuning = InstructionTunedClassifier(TunableModel(), random_state=0).fit(TEXTS, LABELS)
    assert tuning.predict(TEXTS).tolist() == LABELS
    assert tuning.prompt_.demonstrations == ()
    assert (tuning.loss_curve_, tuning.n_iter_, tuning.stopped_by_) == ([0.5], 1, "max_epochs")
    assert len(tuning.adapter_) == 16


def test_several_adapters_are_averaged():
    tuning = InstructionTunedClassifier(TunableModel(), n_shots=4, n_seeds=2, random_state=0)
    assert tuning.fit(TEXTS, LABELS).predict(TEXTS).tolist() == LABELS
