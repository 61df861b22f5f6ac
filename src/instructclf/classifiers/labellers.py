"""What ``fit`` learns, as one frozen value that scores texts; of several seeds, an ensemble.

Estimators build a labeller in ``fit`` and read it everywhere else. It holds no model: the model is
opened again by name after unpickling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from instructclf.calibration import Calibration
from instructclf.classifiers.label_scores import (
    Answers,
    LabelScores,
    Words,
    average_log_probabilities,
    average_scores,
    score_visibly,
)
from instructclf.classifiers.shots import ShotsPerText
from instructclf.engine.interfaces import LabelScorer, LanguageModel, Question
from instructclf.prompts import Prompt

OpenModel = Callable[[], LanguageModel]
"""Returns the language model, which takes seconds if it has to be loaded."""


@dataclass(frozen=True, eq=False)
class Labeller:
    """All that a fitted classifier needs to score labels, apart from the language model.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, sorted.
    question : Question
        The prompt and the words of each label.
    calibration : Calibration
        Turns log-likelihoods into probabilities.
    shots : ndarray of shape (n_shots,)
        Which rows of ``X`` became shots.
    adapter : FittedAdapter or None, default=None
        The weights added by tuning.
    training : TrainingRecord or None, default=None
        The losses of tuning, and why it stopped.
    """

    classes: NDArray[Any]
    question: Question
    calibration: Calibration
    shots: NDArray[np.intp]
    adapter: Any = None
    training: Any = None

    @property
    def prompt(self) -> Prompt:
        """Template, instruction and demonstrations."""
        return self.question.prompt

    @property
    def label_words(self) -> tuple[tuple[str, ...], ...]:
        """The answers of each label, in the order of ``classes``."""
        return self.question.label_words

    @property
    def max_length(self) -> int | None:
        """The most tokens of a prompt with its label."""
        return self.question.max_length

    @property
    def shots_per_text(self) -> ShotsPerText | None:
        """What chooses the shots of each text, if not all texts have the same ones."""
        chooses: Any = self.question.demonstrations_for
        return chooses

    def score(
        self, texts: Sequence[str], open_model: OpenModel, *, verbose: int | bool = 0
    ) -> LabelScores:
        """Score the labels of each text, before and after calibration.

        Parameters
        ----------
        texts : sequence of str
            The texts.
        open_model : callable
            Returns the language model. Called the first time only.
        verbose : int or bool, default=0
            Whether to show a progress bar.

        Returns
        -------
        LabelScores
            The scores.
        """
        scores = score_visibly(self.scorer(open_model), texts, "Scoring", verbose=verbose)
        return LabelScores(scores, self.calibration.log_probabilities(scores))

    def log_probabilities(
        self, texts: Sequence[str], open_model: OpenModel, *, verbose: int | bool = 0
    ) -> NDArray[np.float64]:
        """Return the log-probabilities alone, of shape (n_texts, n_classes), at less cost.

        The parameters are those of `score`.
        """
        scorer = self.scorer(open_model)
        # A calibration of a user's own, or a subclass, may look at more than differences.
        relative = type(self.calibration) is Calibration
        scores = score_visibly(scorer, texts, "Scoring", relative=relative, verbose=verbose)
        return self.calibration.log_probabilities(scores)

    def scorer(self, open_model: OpenModel) -> LabelScorer:
        """Return what scores the question, made at the first call."""
        scorer = vars(self).get("_scorer")
        if scorer is None:
            scorer = open_model().label_scorer(self.question, self.adapter)
            self.keep_scorer(scorer)
        return scorer

    def keep_scorer(self, scorer: LabelScorer) -> Self:
        """Score with this scorer, which has computed the shared prompt already."""
        vars(self)["_scorer"] = scorer
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_scorer"}


@dataclass(frozen=True, eq=False)
class LabellerEnsemble:
    """The labellers of several seeds, which answer as one.

    Parameters
    ----------
    members : tuple of Labeller
        One for each seed.
    seeds : tuple of int
        Their seeds.
    average : Labeller or None, default=None
        A single labeller with the mean of their adapters. ``None`` averages what they predict.
    """

    members: tuple[Labeller, ...]
    seeds: tuple[int, ...]
    average: Labeller | None = None

    @property
    def classes(self) -> NDArray[Any]:
        """The labels, sorted."""
        return self.members[0].classes

    @property
    def label_words(self) -> tuple[tuple[str, ...], ...]:
        """The answers of each label, in the order of ``classes``."""
        return self.members[0].label_words

    @property
    def max_length(self) -> int | None:
        """The most tokens of a prompt with its label."""
        return self.members[0].max_length

    @property
    def shots(self) -> NDArray[np.intp]:
        """Rows that became shots of any member."""
        return np.unique(np.concatenate([member.shots for member in self.members]))

    @property
    def single(self) -> Labeller:
        """The one labeller that answers for all members.

        Raises
        ------
        AttributeError
            If there is none, since predictions are averaged.
        """
        if self.average is None:
            msg = (
                f"Each of the n_seeds={len(self.members)} classifiers has a prompt of its own. Ask "
                "one of them, such as estimators_[0]."
            )
            raise AttributeError(msg)
        return self.average

    prompt = property(lambda self: self.single.prompt)
    question = property(lambda self: self.single.question)
    calibration = property(lambda self: self.single.calibration)
    adapter = property(lambda self: self.single.adapter)
    shots_per_text = property(lambda self: self.single.shots_per_text)

    @property
    def training(self) -> Any:
        """The record of a training run, of which an ensemble has several.

        Raises
        ------
        AttributeError
            Always.
        """
        msg = "Each seed has a training run of its own. Ask one of them, such as estimators_[0]."
        raise AttributeError(msg)

    def score(
        self, texts: Sequence[str], open_model: OpenModel, *, verbose: int | bool = 0
    ) -> LabelScores:
        """Score the labels of each text with the average, or with all members.

        Parameters
        ----------
        texts : sequence of str
            The texts.
        open_model : callable
            Returns the language model.
        verbose : int or bool, default=0
            Whether to show progress bars.

        Returns
        -------
        LabelScores
            The scores.
        """
        if self.average is not None:
            return self.average.score(texts, open_model, verbose=verbose)
        return average_scores(
            [member.score(texts, open_model, verbose=verbose) for member in self.members]
        )

    def log_probabilities(
        self, texts: Sequence[str], open_model: OpenModel, *, verbose: int | bool = 0
    ) -> NDArray[np.float64]:
        """Return the log-probabilities alone, at less cost. The parameters are those of `score`."""
        if self.average is not None:
            return self.average.log_probabilities(texts, open_model, verbose=verbose)
        return average_log_probabilities(
            [
                member.log_probabilities(texts, open_model, verbose=verbose)
                for member in self.members
            ]
        )

    def scorer(self, open_model: OpenModel) -> LabelScorer:
        """Return what scores with the one labeller that answers for all members."""
        return self.single.scorer(open_model)


@dataclass(frozen=True, eq=False)
class JointLabeller:
    """Answers several questions from one pass over a text.

    Parameters
    ----------
    whole : Labeller
        Scores the answers of all questions, question after question, after one prompt.
    answers : tuple of Answers
        The questions.
    """

    whole: Labeller
    answers: tuple[Answers, ...]

    prompt = property(lambda self: self.whole.prompt)
    max_length = property(lambda self: self.whole.max_length)
    shots = property(lambda self: self.whole.shots)
    shots_per_text = property(lambda self: self.whole.shots_per_text)
    adapter = property(lambda self: self.whole.adapter)

    @property
    def names(self) -> list[Any]:
        """What the questions are called."""
        return [own.name for own in self.answers]

    @property
    def classes(self) -> list[NDArray[Any]]:
        """The labels of each question, sorted."""
        return [own.classes for own in self.answers]

    @property
    def calibrations(self) -> list[Calibration]:
        """The calibration of each question."""
        return [own.calibration for own in self.answers]

    @property
    def label_words(self) -> list[Words]:
        """The answers of each label of each question."""
        return [own.find_words(self.whole.label_words) for own in self.answers]

    def score(
        self, texts: Sequence[str], open_model: OpenModel, *, verbose: int | bool = 0
    ) -> list[LabelScores]:
        """Score the answers of each question. The parameters are those of `Labeller.score`."""
        scores = self.whole.score(texts, open_model, verbose=verbose).log_likelihood
        each = [own.read(scores) for own in self.answers]
        return [
            LabelScores(scores, own.calibration.log_probabilities(scores))
            for own, scores in zip(self.answers, each, strict=True)
        ]

    def scorer(self, open_model: OpenModel) -> LabelScorer:
        """Return what scores all questions, made at the first call."""
        return self.whole.scorer(open_model)

    def alone(self, position: int) -> Labeller:
        """Return what asks one question by itself, after the same prompt."""
        own = self.answers[position]
        words = self.label_words[position]
        question = replace(self.whole.question, label_words=words, groups=())
        return Labeller(own.classes, question, own.calibration, self.shots)


@dataclass(frozen=True, eq=False)
class JointEnsemble(LabellerEnsemble):
    """The joint labellers of several seeds, whose answers to each question are averaged."""

    members: tuple[Any, ...]
    names = property(lambda self: self.members[0].names)

    @property
    def answers(self) -> tuple[Answers, ...]:
        """The questions, with the mean threshold of all members."""
        each = zip(*(member.answers for member in self.members), strict=True)
        return tuple(
            own[0]
            if own[0].threshold is None
            else replace(own[0], threshold=float(np.mean([one.threshold for one in own])))
            for own in each
        )

    calibrations = property(lambda self: self.single.calibrations)

    def score(self, texts: Sequence[str], open_model: OpenModel, *, verbose: int | bool = 0) -> Any:
        """Average what all members say about each question."""
        found = [member.score(texts, open_model, verbose=verbose) for member in self.members]
        return [average_scores(own) for own in zip(*found, strict=True)]

    def alone(self, position: int) -> LabellerEnsemble:
        """Return what asks one question by itself."""
        members = tuple(member.alone(position) for member in self.members)
        return LabellerEnsemble(members, self.seeds)
