"""Texts of one word with uncertain labels, and classifiers of them, for the tests of wrappers."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

WORDS = np.array(["awful", "bad", "fair", "good", "great"])
CHANCES = np.array([0.0, 0.2, 0.5, 0.8, 1.0])  # that the label is positive


def draw(n_rows, seed=0):
    """Draw texts of one word, whose label is sure, likely or anything."""
    rng = np.random.default_rng(seed)
    words = rng.integers(5, size=n_rows)
    labels = np.where(rng.random(n_rows) < CHANCES[words], "positive", "negative")
    return [f"{WORDS[word]} thing" for word in words], labels


ASKED = [f"{word} thing" for word in WORDS]


def regression():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


class Weighed(ClassifierMixin, BaseEstimator):
    """A regression on words that takes weights by that name, and keeps them."""

    def fit(self, X, y, sample_weight=None):
        self.weights_, self.texts_ = sample_weight, list(X)
        self.inner_ = regression().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)
