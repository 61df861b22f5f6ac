"""Label log-likelihoods → labels and their probabilities: every way to read one matrix."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from instructclf.classifiers.seeding import LabelScores


class LabelPredictor(ClassifierMixin, metaclass=ABCMeta):
    """Base of classifiers that score labels, and calibrate the scores.

    A subclass sets ``classes_`` in ``fit``, and supplies ``_score``, which checks the texts.
    """

    classes_: NDArray[Any]

    @abstractmethod
    def _score(self, X: Any) -> LabelScores:
        """Score the labels of each text, before and after calibration."""

    def label_log_likelihood(self, X: Any) -> NDArray[np.float64]:
        """Return how likely the model is to answer with each label's words, before calibration.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            ``log p(label words | prompt)``, columns in the order of ``classes_``. The sum over a
            label's tokens of the log-softmax over the whole vocabulary; of a label with several
            answers, the log of the sum of their likelihoods; of several seeds, the log of the mean
            of theirs.
        """
        return self._score(X).log_likelihood

    def label_mass(self, X: Any) -> NDArray[np.float64]:
        """Return how likely the model is to answer with any label's words at all.

        It says how far the model has understood what is asked, not how sure it is of a label:
        where it is small, the model would rather say something else, and ``predict_proba`` compares
        labels that are all unlikely.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts,)
            The sum of ``exp(label_log_likelihood(X))`` over labels, before calibration: from 0 to
            1, but for rounding.
        """
        return mass_of(self.label_log_likelihood(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of each label's probability.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Log-probabilities, columns in the order of ``classes_``.
        """
        return self._score(X).log_probabilities

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each label.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Probabilities, columns in the order of ``classes_``. Rows sum to 1.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any, *, min_label_mass: float | None = None) -> NDArray[Any]:
        """Return the most probable label of each text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        min_label_mass : float or None, default=None
            Abstain where ``label_mass(X)`` is less than this, from 0 to 1. ``None`` never abstains.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``. With ``min_label_mass`` the array is of dtype
            object, whether a text is abstained from or not, and holds ``None`` in place of a label
            where the classifier abstains. ``None`` is no class: metrics of scikit-learn refuse it
            rather than count it as a wrong label, and ``pandas.isna`` finds it.

        Notes
        -----
        Abstention is asked for here and is no parameter of the constructor, so that ``score``, a
        scorer or a meta-estimator, which call ``predict(X)``, get nothing but labels.
        """
        self._check_min_label_mass(min_label_mass)
        scores = self._score(X)  # which checks that there are classes
        return choose_labels(self.classes_, scores, min_label_mass)

    def _check_min_label_mass(self, min_label_mass: float | None) -> None:
        validate_parameter_constraints(
            {"min_label_mass": [Interval(Real, 0, 1, closed="both"), None]},
            {"min_label_mass": min_label_mass},
            caller_name=f"{type(self).__name__}.predict",
        )


def choose_labels(
    classes: NDArray[Any], scores: LabelScores, min_label_mass: float | None
) -> NDArray[Any]:
    """Return the most probable label of each text, and ``None`` where there is to be none.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    scores : LabelScores
        Of the texts.
    min_label_mass : float or None
        The least label mass of a text that is answered. ``None`` answers all.

    Returns
    -------
    ndarray of shape (n_texts,)
        Labels; of dtype object where some might be ``None``.
    """
    probabilities = np.exp(scores.log_probabilities)
    labels = classes[probabilities.argmax(axis=1)]
    if min_label_mass is None:
        return labels
    answers = labels.astype(object)
    answers[mass_of(scores.log_likelihood) < min_label_mass] = None
    return answers


def mass_of(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how likely any label is.

    Parameters
    ----------
    log_likelihood : ndarray of shape (n_texts, n_classes)
        How likely each is, as a logarithm.

    Returns
    -------
    ndarray of shape (n_texts,)
        Their sum, from 0 to 1 but for rounding.
    """
    return np.exp(log_likelihood).sum(axis=1)
