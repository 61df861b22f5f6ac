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
from instructclf.classifiers.label_scores import Answers
from instructclf.classifiers.labellers import (
    JointEnsemble,
    JointLabeller,
    Labeller,
)
from instructclf.classifiers.options import ModelOptions, given_or_default
from instructclf.classifiers.questions import find_template, write_question
from instructclf.classifiers.several.asked import AskedRows, is_indicator
from instructclf.classifiers.several.lines import AnswerLine
from instructclf.classifiers.several.scores import RememberedScores
from instructclf.classifiers.several.shots import choose_sampler
from instructclf.classifiers.several.thresholds import learn_threshold
from instructclf.engine.interfaces import LanguageModel, Question


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
    question = write_question(
        model,
        find_template(estimator.template),
        task=asked.write_task(estimator.instruction),
        labels=[],
        label_words=tuple(words for line in asked.lines for words in line.label_words),
        definitions=None,
        max_length=given_or_default(estimator.model_options, ModelOptions).max_length,
        order=(),  # the task states the labels
    )
    return replace(question, groups=tuple(len(line.label_words) for line in asked.lines))


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
    answers = []
    for own, uncalibrated in zip(asked.rows, _find_answers(asked), strict=True):
        evidence = Evidence(
            whole,
            own,
            scores.read_by(uncalibrated.read),
            verbose=estimator.verbose,
            what=f"The answer to {uncalibrated.name!r}",
        )
        calibration = calibrator.calibrate(evidence, rng)
        has_threshold = estimator.thresholds is not None and is_indicator(own.classes)
        threshold = learn_threshold(evidence, calibration, rng) if has_threshold else None
        answers.append(replace(uncalibrated, calibration=calibration, threshold=threshold))
    return tuple(answers)


def _find_answers(asked: AskedRows) -> list[Answers]:
    """Return where the scores of each question are, in the order of questions."""
    found = {}
    start = 0
    for line in asked.lines:
        part = start, start + len(line.label_words)
        for place, question in enumerate(line.questions):
            classes = asked.rows[question].classes
            found[question] = Answers(
                asked.names.tolist()[question],
                classes,
                no_calibration(len(classes)),
                part=part,
                listed=None if isinstance(line, AnswerLine) else place,
            )
        start = part[1]
    return [found[question] for question in range(len(asked.rows))]
