"""Published ways to calibrate from texts without labels, to compare the default with.

Each is an object for ``calibration=``. They differ in the texts that they look at: texts without
content, random words of the domain, or the very texts to predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator

from instructclf.calibration import Calibration
from instructclf.exceptions import InvalidTextsError

CONTENT_FREE_TEXTS = ("N/A", "", "[MASK]")
"""The inputs without content of Zhao et al. (2021)."""
N_DOMAIN_TEXTS = 20
"""How many texts of random words Fei et al. (2023) draw."""


class ContextualCalibrator(BaseEstimator):
    """Contextual calibration: what the model answers to texts without content [1]_.

    References
    ----------
    .. [1] Zhao et al., "Calibrate Before Use: Improving Few-shot Performance of Language Models",
       ICML 2021.
    """

    def calibrate(self, evidence: Any, rng: np.random.RandomState) -> Calibration:  # noqa: ARG002
        """Score the texts without content, and estimate the bias from them."""
        return fit_prior(evidence.score(CONTENT_FREE_TEXTS))


class DomainCalibrator(BaseEstimator):
    """Domain-context calibration: what the model answers to random words of the domain [1]_.

    References
    ----------
    .. [1] Fei et al., "Mitigating Label Biases for In-context Learning", ACL 2023.
    """

    def calibrate(self, evidence: Any, rng: np.random.RandomState) -> Calibration:
        """Score random words of the texts of ``fit``, and estimate the bias from them."""
        return fit_prior(evidence.score(draw_domain_texts(evidence.texts, rng)))


class BatchCalibrator(BaseEstimator):
    """Batch calibration: what the model answers to the texts that are predicted together [1]_.

    References
    ----------
    .. [1] Zhou et al., "Batch Calibration: Rethinking Calibration for In-Context Learning and
       Prompt Engineering", ICLR 2024.
    """

    def calibrate(self, evidence: Any, rng: np.random.RandomState) -> BatchCalibration:  # noqa: ARG002
        """Learn nothing: the texts to predict are not known yet."""
        return BatchCalibration()


@dataclass(frozen=True)
class BatchCalibration:
    """Takes the bias of `fit_prior` over the texts that are read together.

    It is right where all labels are equally frequent among these texts. The answer for a text
    depends on the other texts: a text alone gets the same probability for every label.
    """

    def log_probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log-probabilities of the labels, where each row depends on all rows."""
        return fit_prior(scores).log_probabilities(scores)


COMPARISONS = {
    "contextual": ContextualCalibrator(),
    "domain": DomainCalibrator(),
    "batch": BatchCalibrator(),
}


def fit_prior(scores: NDArray[np.float64]) -> Calibration:
    """Estimate the bias from texts without labels: what the model answers to them on average.

    ``b_c = log mean_j exp S_c(x_j)``, centred. The mean is over probabilities in the whole
    vocabulary, as in the code of Zhao et al. and Fei et al.: a text to which the model would rather
    answer something else weighs less. Nothing is shrunk, and the temperature is 1.

    Parameters
    ----------
    scores : ndarray of shape (n_texts, n_classes)
        Label log-likelihoods.

    Returns
    -------
    Calibration
        The estimate. Subtracting its bias divides a text's label probabilities by the mean.
    """
    bias = logsumexp(scores, axis=0)  # the number of texts is the same for all labels
    return Calibration(bias - bias.mean(), 1.0, len(scores))


def draw_domain_texts(
    texts: Sequence[str], rng: np.random.RandomState, n_draws: int = N_DOMAIN_TEXTS
) -> list[str]:
    """Return texts of random words of a domain (Fei et al., 2023).

    Each has as many words as the given texts have on average, rounded. Words are separated by
    white space and drawn with replacement from all texts, so that frequent words come often. Unlike
    in the authors' code, they keep their case, and no full stop is added.
    """
    words = [word for text in texts for word in text.split()]
    if not words:
        msg = (
            f"Domain calibration draws words from the texts of fit. Got {len(texts)} texts without "
            "a word: give other texts, or another calibration."
        )
        raise InvalidTextsError(msg)
    n_words = max(1, round(len(words) / len(texts)))
    drawn = rng.randint(len(words), size=(n_draws, n_words))
    return [" ".join(words[i] for i in row) for row in drawn]
