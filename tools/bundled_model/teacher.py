"""A bag-of-words teacher that labels unlabelled reviews."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)
SURE = 0.85
WORD = r"[a-zA-Z']+|[!?]"
LOGARITHMS = np.log(np.maximum(1, np.arange(4_096))).tolist()
DAMPING = 300.0
"""Added to the squared length of a beginning, or its first words would decide alone."""


class Teacher:
    """TF-IDF of one and two words with logistic regression, self-trained once.

    Parameters
    ----------
    strength : float, default=8.0
        The inverse of the regularisation.
    """

    def __init__(self, strength: float = 8.0) -> None:
        self.vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), min_df=4, sublinear_tf=True, token_pattern=WORD
        )
        self.model = LogisticRegression(C=strength, solver="liblinear")
        self._features: dict[str, tuple[float, float]] = {}

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

    def running(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return how the opinion of a review grows from word to word.

        Parameters
        ----------
        text : str
            A review.

        Returns
        -------
        tuple of numpy.ndarray
            Where each word ends, in characters, and how probable "positive" is up to there.
        """
        self._features = self._features or self._weigh()
        words = [(match.group().lower(), match.end()) for match in re.finditer(WORD, text)]
        seen: dict[str, int] = {}
        total, square, before = 0.0, DAMPING, ""
        odds = np.empty(len(words))
        for i, (word, _) in enumerate(words):
            for feature in (word, f"{before} {word}"):
                if feature not in self._features:
                    continue
                frequency, weighted = self._features[feature]
                count = seen[feature] = seen.get(feature, 0) + 1
                new, old = 1 + LOGARITHMS[count], (count > 1) * (1 + LOGARITHMS[count - 1])
                total += (new - old) * weighted
                square += (new * new - old * old) * frequency * frequency
            odds[i] = total / square**0.5
            before = word
        odds += self.model.intercept_[0]
        return np.array([end for _, end in words], int), 1 / (1 + np.exp(-odds))

    def _weigh(self) -> dict[str, tuple[float, float]]:
        frequencies = self.vectorizer.idf_
        weighted = frequencies * self.model.coef_[0]
        return {
            feature: (float(frequencies[i]), float(weighted[i]))
            for feature, i in self.vectorizer.vocabulary_.items()
        }
