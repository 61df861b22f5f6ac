"""The scores of labels, and every way to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp


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


def average_scores(members: Sequence[LabelScores]) -> LabelScores:
    """Average the scores of several seeds.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles" (NeurIPS 2017), for members that differ by their seed alone. The mean of
    log-probabilities is Hinton's product of experts (2002).

    Parameters
    ----------
    members : sequence of LabelScores
        The scores of each seed.

    Returns
    -------
    LabelScores
        The logarithm of the mean likelihood, and the mean of the log-probabilities, shifted so that
        probabilities sum to 1.
    """
    likelihoods = np.stack([member.log_likelihood for member in members])
    mean = np.mean([member.log_probabilities for member in members], axis=0)
    return LabelScores(
        logsumexp(likelihoods, axis=0) - np.log(len(members)), log_softmax(mean, axis=1)
    )


def choose_labels(
    classes: NDArray[Any], scores: LabelScores, min_label_mass: float | None = None
) -> NDArray[Any]:
    """Return the most probable label of each text, or ``None`` where the classifier abstains.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    scores : LabelScores
        The scores of the texts.
    min_label_mass : float or None, default=None
        Abstain below this label mass. ``None`` answers every text.

    Returns
    -------
    ndarray of shape (n_texts,)
        Labels; of dtype object if some may be ``None``.
    """
    labels = classes[np.exp(scores.log_probabilities).argmax(axis=1)]
    if min_label_mass is None:
        return labels
    answers = labels.astype(object)
    answers[mass_of(scores.log_likelihood) < min_label_mass] = None
    return answers


def mass_of(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the likelihood that the model answers with any label, of shape (n_texts,)."""
    return np.exp(log_likelihood).sum(axis=1)
