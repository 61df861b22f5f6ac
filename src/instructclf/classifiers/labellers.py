"""What ``fit`` learns, as one frozen value that scores texts; of several seeds, an ensemble.

Estimators build a labeller in ``fit`` and read it everywhere else. It holds no model: the model is
opened again by name after unpickling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from instructclf.calibration import Calibration
from instructclf.classifiers.label_scores import LabelScores, average_scores
from instructclf.classifiers.labels import order_labels
from instructclf.classifiers.shots_per_text import ShotsPerText
from instructclf.engine.interfaces import LabelScorer, LanguageModel, Question
from instructclf.engine.running.processes import current_processes
from instructclf.engine.running.progress import Progress
from instructclf.prompts import Prompt

OpenModel = Callable[[], LanguageModel]
"""Returns the language model, which takes seconds if it has to be loaded."""


def score_visibly(
    scorer: LabelScorer, texts: Sequence[str], what: str, *, verbose: int | bool
) -> NDArray[np.float64]:
    """Return label log-likelihoods, and show a progress bar meanwhile if asked to."""
    if not verbose:
        return scorer.score(texts)
    n_texts = len([*dict.fromkeys(texts)][current_processes().local_rows])
    with Progress(what, n_texts, verbose=verbose) as progress:
        return scorer.score(texts, progress)


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

    def scorer(self, open_model: OpenModel) -> LabelScorer:
        """Return what scores with the one labeller that answers for all members."""
        return self.single.scorer(open_model)


def make_members(classifier: Any) -> list[Any]:
    """Return the fitted classifier of each seed, over the labellers of the ensemble.

    Parameters
    ----------
    classifier : estimator
        A classifier that was fitted with ``n_seeds`` above 1.

    Returns
    -------
    list of estimator
        One entry a seed.

    Raises
    ------
    AttributeError
        If it was fitted with one seed, or not at all.
    """
    ensemble = classifier.labeller_
    if not isinstance(ensemble, LabellerEnsemble):
        msg = "estimators_ exists only with n_seeds above 1."
        raise AttributeError(msg)  # noqa: TRY004  (so that hasattr says no)
    members = []
    for number, (labeller, seed) in enumerate(zip(ensemble.members, ensemble.seeds, strict=True)):
        member: Any = clone(classifier)
        member.set_params(n_seeds=1, random_state=seed)
        if member.label_order == "cyclic":  # whose place among the seeds a member does not know
            stated = order_labels("cyclic", labeller.classes, np.random.RandomState(seed), number)
            member.set_params(label_order=labeller.classes[stated].tolist())
        vars(member).pop("_skl_callbacks", None)  # they follow the fit of all members, as one
        vars(member).update({name: vars(classifier).get(name) for name in ("_model",)})
        member.labeller_ = labeller
        members.append(member)
    return members
