"""Linear models of sentiment: one judges unlabelled reviews, one gives token embeddings a start."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.preprocessing import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)
SURE = 0.85
WORD = r"[a-zA-Z']+|[!?]"
LOGARITHMS = np.log(np.maximum(1, np.arange(4_096))).tolist()
DAMPING = 300.0
"""Added to the squared length of a beginning, since otherwise its first words would decide."""
LIMIT = 3.0
HELD_OUT = 2000


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
        """Learn from labelled reviews, then also from the unlabelled ones it is sure of.

        Parameters
        ----------
        texts : sequence of str
            Labelled reviews.
        labels : sequence of int
            0 negative, 1 positive.
        unlabelled : sequence of str
            Reviews of the target domain.
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
        """Return the probability that each review is positive."""
        return self.model.predict_proba(self.vectorizer.transform(texts))[:, 1]

    def running(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return where each word of a review ends, and how probable "positive" is up to there."""
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


def token_sentiment(
    texts: Sequence[Sequence[int]], labels: np.ndarray, vocabulary: int, seed: int = 0
) -> np.ndarray:
    """Learn how positive each token is.

    Parameters
    ----------
    texts : sequence of sequence of int
        Reviews as token ids, shuffled.
    labels : numpy.ndarray
        0 negative, 1 positive.
    vocabulary : int
        The number of tokens.
    seed : int, default=0
        The seed.

    Returns
    -------
    numpy.ndarray
        One number for each token, of unit spread over the tokens seen, at most 3.
    """
    different = [np.unique(ids) for ids in texts]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in different])])
    values = np.ones(starts[-1], np.float32)
    counts = csr_matrix((values, np.concatenate(different), starts), (len(texts), vocabulary))
    model = SGDClassifier(loss="log_loss", alpha=2e-6, average=True, max_iter=6, random_state=seed)
    features = normalize(counts)
    held_out = min(HELD_OUT, len(texts) // 10)
    model.fit(features[held_out:], labels[held_out:])
    right = model.score(features[:held_out], labels[:held_out])
    LOG.info("linear model of tokens: %.3f of the reviews right", right)
    weights = model.coef_[0]
    spread = weights[np.asarray(counts.sum(0))[0] > 0].std()
    return np.clip(weights / spread, -LIMIT, LIMIT)
