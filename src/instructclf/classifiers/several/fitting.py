"""Rows with several answers each → a joint labeller: the steps of ``fit`` for several questions.

They are those of one question. The response to a text has all its answers, and each question is
calibrated by itself, on scores that are computed once.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from instructclf.calibration import get_calibrator, no_calibration
from instructclf.classifiers.fitting import (
    Evidence,
    Learned,
    Rows,
    evidence_scorer,
    fit_seeds,
    learn_from_shots,
    random_generator,
    show_shots,
    tell_of_calibrating,
)
from instructclf.classifiers.labellers import (
    Answers,
    JointEnsemble,
    JointLabeller,
    Labeller,
    find_parts,
)
from instructclf.classifiers.options import ModelOptions, given_or_default
from instructclf.classifiers.questions import find_template, write_question
from instructclf.classifiers.several.asked import AskedRows, is_indicator, plain_words
from instructclf.classifiers.several.scores import RememberedScores
from instructclf.classifiers.several.shots import choose_sampler
from instructclf.classifiers.several.thresholds import learn_threshold
from instructclf.engine.interfaces import LanguageModel, Question
from instructclf.prompts.instructions import write_questions


def fit_together(
    estimator: Any, asked: AskedRows, model: LanguageModel
) -> JointLabeller | JointEnsemble:
    """Write the prompt, choose the shots and calibrate each question; for each seed, if several."""
    if estimator.n_seeds == 1:
        return _fit(estimator, asked, model, random_generator(estimator.random_state))
    return JointEnsemble(*fit_seeds(estimator, lambda rng, _: _fit(estimator, asked, model, rng)))


def _fit(
    estimator: Any, asked: AskedRows, model: LanguageModel, rng: np.random.RandomState
) -> JointLabeller:
    started = perf_counter()
    whole = _show(estimator, asked, model, rng)
    learning = perf_counter() - started
    answers = _calibrate(estimator, asked, whole, model, rng)
    tell_of_calibrating(estimator, learning, perf_counter() - started)
    return JointLabeller(whole, answers)


def _show(
    estimator: Any, asked: AskedRows, model: LanguageModel, rng: np.random.RandomState
) -> Labeller:
    """Return what scores the answers of all questions, after a prompt with shots."""
    shown = learn_from_shots(
        estimator,
        asked.responses,
        _write_question(estimator, asked, model),
        model,
        rng,
        sampler=choose_sampler(estimator, asked.codes),
        learn=_learn,
    )
    words = shown.question.label_words
    whole = replace(
        shown,
        classes=np.array([answers[0] for answers in words]),
        calibration=no_calibration(len(words)),
    )
    return whole.keep_scorer(shown.scorer(lambda: model))


def _learn(
    model: LanguageModel,
    question: Question,
    shots: Rows,
    rng: np.random.RandomState,  # noqa: ARG001  (nothing here is random)
) -> Learned:
    return show_shots(model, question, shots)


def _write_question(estimator: Any, asked: AskedRows, model: LanguageModel) -> Question:
    names = asked.names.tolist()
    words = [plain_words(own, name) for own, name in zip(asked.rows, names, strict=True)]
    question = write_question(
        model,
        find_template(estimator.template),
        task=write_questions(
            estimator.instruction, list(map(str, names)), words, asked.definitions
        ),
        labels=[],
        label_words=tuple(branch for own in asked.rows for branch in own.label_words),
        definitions=None,
        max_length=given_or_default(estimator.model_options, ModelOptions).max_length,
        order=(),  # the task states the labels
    )
    return replace(question, groups=tuple(len(own.classes) for own in asked.rows))


def _calibrate(
    estimator: Any,
    asked: AskedRows,
    whole: Labeller,
    model: LanguageModel,
    rng: np.random.RandomState,
) -> tuple[Answers, ...]:
    """Calibrate each question by itself, on texts that are scored once."""
    scores = RememberedScores(evidence_scorer(whole, model))
    calibrator = get_calibrator(estimator.calibration)
    parts = find_parts([own.classes for own in asked.rows])
    answers = []
    for name, own, part in zip(asked.names.tolist(), asked.rows, parts, strict=True):
        evidence = Evidence(
            whole,
            own,
            scores.part(part),
            verbose=estimator.verbose,
            what=f"The answer to {name!r}",
        )
        calibration = calibrator.calibrate(evidence, rng)
        has_threshold = estimator.thresholds is not None and is_indicator(own.classes)
        threshold = learn_threshold(evidence, calibration, rng) if has_threshold else None
        answers.append(Answers(name, own.classes, calibration, threshold))
    return tuple(answers)
