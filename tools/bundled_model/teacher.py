"""A bag-of-words teacher that labels unlabelled reviews."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)
SURE = 0.85


class Teacher:
    """TF-IDF of one and two words with logistic regression, self-trained once.

    Parameters
    ----------
    strength : float, default=8.0
        The inverse of the regularisation.
    """

    def __init__(self, strength: float = 8.0) -> None:
        self.vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), min_df=4, sublinear_tf=True, token_pattern=r"[a-zA-Z']+|[!?]"
        )
        self.model = LogisticRegression(C=strength, solver="liblinear")

    def fit(self, texts: Sequence[str], labels: Sequence[int], unlabelled: Sequence[str]) -> None:
        """Learn from labelled reviews, then from the unlabelled ones it is sure of.

        Parameters
        ----------
        texts : sequence of str
            Labelled reviews.
        labels : sequence of int
            0 negative, 1 positive.
        unlabelled : sequence of str
            Reviews of the wanted domain.
        """
        self.vectorizer.fit([*texts, *unlabelled])
        known, new = self.vectorizer.transform(texts), self.vectorizer.transform(unlabelled)
        self.model.fit(known, labels)
        guess = self.model.predict_proba(new)[:, 1]
        sure = np.flatnonzero(np.maximum(guess, 1 - guess) > SURE)
        LOG.info("self-training on %d of %d unlabelled reviews", len(sure), len(unlabelled))
        self.model.fit(
            vstack([known, new[sure]]), np.concatenate([labels, (guess[sure] > 0.5).astype(int)])
        )

    def positive(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability that each review is positive.

        Parameters
        ----------
        texts : sequence of str
            Reviews.

        Returns
        -------
        numpy.ndarray
            One probability a review.
        """
        return self.model.predict_proba(self.vectorizer.transform(texts))[:, 1]
