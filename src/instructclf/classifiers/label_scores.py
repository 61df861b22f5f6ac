"""The scores of labels, and every way to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from instructclf.engine.interfaces import LabelScorer
from instructclf.engine.running.processes import current_processes
from instructclf.engine.running.progress import Progress


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
    scorer: LabelScorer, texts: Sequence[str], what: str, *, verbose: int | bool
) -> NDArray[np.float64]:
    """Return label log-likelihoods, and show a progress bar meanwhile if asked to."""
    if not verbose:
        return scorer.score(texts)
    n_texts = len([*dict.fromkeys(texts)][current_processes().local_rows])
    with Progress(what, n_texts, verbose=verbose) as progress:
        return scorer.score(texts, progress)


def average_scores(members: Sequence[LabelScores]) -> LabelScores:
    """Average the scores of several seeds.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles" (NeurIPS 2017), for members that differ by their seed alone. The mean of
    log-probabilities, shifted so that probabilities sum to 1, is Hinton's product of experts
    (2002). Likelihoods are averaged as they are.
    """
    likelihoods = np.stack([member.log_likelihood for member in members])
    mean = np.mean([member.log_probabilities for member in members], axis=0)
    return LabelScores(
        logsumexp(likelihoods, axis=0) - np.log(len(members)), log_softmax(mean, axis=1)
    )


def choose_labels(
    classes: NDArray[Any], scores: LabelScores, min_label_mass: float | None = None
) -> NDArray[Any]:
    """Return the most probable label of each text, or ``None`` below a label mass, (n_texts,)."""
    labels = classes[np.exp(scores.log_probabilities).argmax(axis=1)]
    if min_label_mass is None:
        return labels
    return leave_open(labels, mass_of(scores.log_likelihood) < min_label_mass)


def leave_open(labels: NDArray[Any], open_texts: NDArray[np.bool_]) -> NDArray[Any]:
    """Return labels of dtype object, with ``None`` for texts that stay without one, (n_texts,)."""
    answers = labels.astype(object)
    answers[open_texts] = None
    return answers


def mass_of(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the likelihood that the model answers with any label, of shape (n_texts,)."""
    return np.exp(log_likelihood).sum(axis=1)
