"""One classifier → several fitted with seeds of their own, and one answer from all of them.

Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles" (NeurIPS 2017), for members that differ by their seed alone; a mean of log-probabilities
is the product of experts of Hinton (2002), and what the reference experiment calls averaging over
seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.base import BaseEstimator, clone

Classifier = TypeVar("Classifier", bound=BaseEstimator)


class LabelScores(NamedTuple):
    """What a classifier finds out about labels in one pass.

    Parameters
    ----------
    log_likelihood : ndarray of shape (n_texts, n_classes)
        How likely the model is to answer with each label, as a logarithm.
    log_probabilities : ndarray of shape (n_texts, n_classes)
        The logarithm of each label's probability, calibrated.
    """

    log_likelihood: NDArray[np.float64]
    log_probabilities: NDArray[np.float64]


def spawn_members(
    classifier: Classifier, n_seeds: int, rng: np.random.RandomState
) -> list[Classifier]:
    """Return unfitted copies of a classifier, each with a seed of its own.

    Parameters
    ----------
    classifier : estimator
        A classifier with parameters ``n_seeds`` and ``random_state``.
    n_seeds : int
        How many copies.
    rng : RandomState
        Gives the seeds. The first of many are those of few.

    Returns
    -------
    list of estimator
        The copies.
    """
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_seeds).tolist()
    members: list[Any] = [clone(classifier) for _ in seeds]
    return [
        member.set_params(n_seeds=1, random_state=seed)
        for member, seed in zip(members, seeds, strict=True)
    ]


def average_scores(members: Sequence[LabelScores]) -> LabelScores:
    """Average what several classifiers found out.

    Parameters
    ----------
    members : sequence of LabelScores
        One entry a classifier.

    Returns
    -------
    LabelScores
        The logarithm of the mean likelihood; and the mean of the log-probabilities, so shifted that
        probabilities sum to 1.
    """
    likelihoods = np.stack([member.log_likelihood for member in members])
    mean = np.mean([member.log_probabilities for member in members], axis=0)
    return LabelScores(
        logsumexp(likelihoods, axis=0) - np.log(len(members)), log_softmax(mean, axis=1)
    )
