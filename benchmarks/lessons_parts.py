"""Samplers and an estimator that only the lessons need."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import check_random_state

from instructclf import PromptClassifier
from instructclf.sampling import BalancedSampler, UncertaintySampler


class SkewedSampler(BaseEstimator):
    """Draw three quarters of the rows from one label, which the seed chooses.

    Every other label keeps at least one row. Balanced sampling is meant to prevent such draws.
    """

    def select(self, X: Any, y: Any, n_shots: int, *, random_state: Any = None) -> NDArray[np.intp]:
        """Return the indices of the rows, in random order."""
        rng = check_random_state(random_state)
        labels = np.asarray(y)
        names = np.unique(labels)
        favoured = names[rng.randint(len(names))]
        n_favoured = min(round(0.75 * n_shots), n_shots - (len(names) - 1))
        of_favoured, others = np.flatnonzero(labels == favoured), np.flatnonzero(labels != favoured)
        drawn = rng.choice(of_favoured, n_favoured, replace=False)
        rest = BalancedSampler().select(
            [X[i] for i in others], labels[others], n_shots - n_favoured, random_state=rng
        )
        return rng.permutation(np.concatenate([drawn, others[rest]]))


class ZeroShotSampler(BaseEstimator):
    """Uncertainty sampling that fits the zero-shot classifier it asks."""

    def __init__(self, classifier: PromptClassifier, prefer: str) -> None:
        self.classifier, self.prefer = classifier, prefer

    def select(self, X: Any, y: Any, n_shots: int, *, random_state: Any = None) -> NDArray[np.intp]:
        """Return the indices of the rows, in the order of the prompt."""
        zero_shot = clone(self.classifier).fit(X, y)
        return UncertaintySampler(prefer=self.prefer).select(
            X, y, n_shots, random_state=random_state, predict_proba=zero_shot.predict_proba
        )


_known: dict[Any, NDArray[np.float64]] = {}


class RecalibratedPrompting(ClassifierMixin, BaseEstimator):
    """Prompting that scores a text after a prompt once, however often it is calibrated again.

    The log-likelihoods do not depend on the calibration, so comparing five of them would send
    every text through the model five times.
    """

    def __init__(self, classifier: PromptClassifier) -> None:
        self.classifier = classifier

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the classifier."""
        self.classifier_ = clone(self.classifier).fit(X, y)
        self.classes_ = self.classifier_.classes_
        return self

    def label_log_likelihood(self, X: list[str]) -> NDArray[np.float64]:
        """Return the classifier's log-likelihoods, computed at the first call with this prompt."""
        prompt = self.classifier_.get_prompt("")  # states the labels and shows the shots
        key = (str(self.classifier.model), prompt, hash(tuple(X)))
        if key not in _known:
            _known[key] = self.classifier_.label_log_likelihood(X)
        return _known[key]

    def predict_log_proba(self, X: list[str]) -> NDArray[np.float64]:
        """Return the log-probabilities, calibrated as this classifier is."""
        return self.classifier_.calibration_.log_probabilities(self.label_log_likelihood(X))

    def predict_proba(self, X: list[str]) -> NDArray[np.float64]:
        """Return the probabilities."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: list[str]) -> NDArray[Any]:
        """Return the most probable label of each text."""
        return self.classes_[self.predict_log_proba(X).argmax(axis=1)]
