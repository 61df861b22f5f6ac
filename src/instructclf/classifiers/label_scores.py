"""The scores of labels, and every way to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from instructclf.calibration import Calibration
from instructclf.engine.interfaces import LabelScorer
from instructclf.engine.running.processes import current_processes
from instructclf.engine.running.progress import Progress

Words = tuple[tuple[str, ...], ...]
"""The answers of each label."""


class LabelScores(NamedTuple):
    """The scores of labels from one pass over texts.

    Parameters
    ----------
    log_likelihood : ndarray of shape (n_texts, n_classes)
        The log-likelihood of each label's words.
    log_probabilities : ndarray of shape (n_texts, n_classes)
        The logarithm of each label's probability, calibrated.
    """

    log_likelihood: NDArray[np.float64]
    log_probabilities: NDArray[np.float64]


def score_visibly(
    scorer: LabelScorer,
    texts: Sequence[str],
    what: str,
    *,
    relative: bool = False,
    verbose: int | bool,
) -> NDArray[np.float64]:
    """Return label log-likelihoods, and show a progress bar meanwhile if asked to.

    With ``relative``, they may lack what is the same for all labels of a text.
    """
    if not verbose:
        return scorer.score(texts, relative=relative)
    n_texts = len([*dict.fromkeys(texts)][current_processes().local_rows])
    with Progress(what, n_texts, verbose=verbose) as progress:
        return scorer.score(texts, progress, relative=relative)


def average_scores(members: Sequence[LabelScores]) -> LabelScores:
    """Average the scores of several seeds: likelihoods as they are, and log-probabilities."""
    likelihoods = np.stack([member.log_likelihood for member in members])
    return LabelScores(
        logsumexp(likelihoods, axis=0) - np.log(len(members)),
        average_log_probabilities([member.log_probabilities for member in members]),
    )


def average_log_probabilities(members: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average the log-probabilities of several seeds.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles" (NeurIPS 2017), for members that differ by their seed alone. The mean of
    log-probabilities, shifted so that probabilities sum to 1, is Hinton's product of experts
    (2002).
    """
    return log_softmax(np.mean(members, axis=0), axis=1)


def choose_labels(classes: NDArray[Any], log_probabilities: NDArray[np.float64]) -> NDArray[Any]:
    """Return the most probable label of each text, of shape (n_texts,)."""
    return classes[np.exp(log_probabilities).argmax(axis=1)]


def choose_above_mass(
    classes: NDArray[Any], scores: LabelScores, min_label_mass: float
) -> NDArray[Any]:
    """Return the most probable label of each text, or ``None`` below a label mass, (n_texts,)."""
    labels = choose_labels(classes, scores.log_probabilities)
    return leave_open(labels, mass_of(scores.log_likelihood) < min_label_mass)


def leave_open(labels: NDArray[Any], open_texts: NDArray[np.bool_]) -> NDArray[Any]:
    """Return labels of dtype object, with ``None`` for texts that stay without one, (n_texts,)."""
    answers = labels.astype(object)
    answers[open_texts] = None
    return answers


def mass_of(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the likelihood that the model answers with any label, of shape (n_texts,)."""
    return np.exp(log_likelihood).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Answers:
    """What is known of one of several questions.

    Parameters
    ----------
    name : str, int or bool
        What the question is called.
    classes : ndarray of shape (n_classes,)
        The labels, sorted.
    calibration : Calibration
        Turns the scores of its answers into probabilities.
    part : tuple of (int, int)
        Where the scores of its answers begin among all, and where they end.
    listed : int or None, default=None
        For a label that is listed beside others, its position in that part. The answer is then yes
        or no, and its scores say whether the list begins with this label or otherwise.
    threshold : float or None, default=None
        The probability from which the second of two labels is predicted. ``None`` predicts the most
        probable label.
    """

    name: Any
    classes: NDArray[Any]
    calibration: Calibration
    part: tuple[int, int]
    listed: int | None = None
    threshold: float | None = None

    def read(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores of its labels among all scores, of shape (n_texts, n_classes)."""
        own = scores[:, slice(*self.part)]
        if self.listed is None:
            return own
        others = np.logaddexp.reduce(np.delete(own, self.listed, axis=1), axis=1)
        return np.column_stack([others, own[:, self.listed]])

    def find_words(self, words: Words) -> Words:
        """Return the answers of each of its labels, among those that are scored."""
        own = words[slice(*self.part)]
        if self.listed is None:
            return own
        others = (answers for place, answers in enumerate(own) if place != self.listed)
        return tuple(chain.from_iterable(others)), own[self.listed]

    def choose(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """Return the label of each text, of shape (n_texts,)."""
        if self.threshold is None:
            return self.classes[probabilities.argmax(axis=1)]
        return self.classes[(probabilities[:, 1] >= self.threshold).astype(np.intp)]
