"""Any classifier → one of ordered labels, which predicts their median and their mean."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, InvalidParameterError

from instructclf.classifiers.wrapping.storing.learned import ORDINAL
from instructclf.classifiers.wrapping.storing.stored import StoredClassifier
from instructclf.classifiers.wrapping.wrapper import ClassifierWrapper
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels


class OrdinalClassifier(StoredClassifier, ClassifierWrapper):
    """Predict labels that are scores, so that errors are small rather than few.

    Labels such as stars are ordered: 4 stars instead of 5 is a smaller error than 1 star. Most
    classifiers predict the most probable label and ignore the order.
    ``predict`` returns the median label instead, which has the least expected absolute error, and
    ``expected_score`` the mean, which has the least expected squared error.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier with ``predict_proba``. ``fit`` trains a clone of it. Wrap a
        fitted one in `sklearn.frozen.FrozenEstimator` to keep it as it is.
    scores : dict of label to float or None, default=None
        The score of each label, such as ``{"bad": 1, "fair": 2, "good": 3}``. Scores give the order
        of the labels and the distances between them. Set them if labels are words, or numbers at
        unequal distances. ``None`` takes the labels themselves, which must be numbers.

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Its labels, sorted by name or number.
    scores_ : ndarray of shape (n_classes,)
        Their scores.

    Notes
    -----
    The classifier is trained as usual: only what is made of its probabilities differs. The mean
    score is what Liu et al., "G-Eval: NLG Evaluation using GPT-4 with Better Human Alignment"
    (EMNLP 2023), take from a language model as judge. If the median lies between two labels, both
    have the same expected error, and ``predict`` returns the lower.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from instructclf import OrdinalClassifier
    >>> texts = ["terrible", "poor", "fair", "good", "excellent"] * 4
    >>> regression = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100))
    >>> stars = OrdinalClassifier(regression).fit(texts, [1, 2, 3, 4, 5] * 4)
    >>> stars.predict(["good", "poor or excellent"]).tolist()
    [4, 3]
    >>> stars.expected_score(["good", "poor or excellent"]).round(1).tolist()
    [4.0, 3.5]
    """

    _FORMAT = ORDINAL
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "scores": [dict, None],
    }

    n_features_in_ = property(lambda self: self.estimator_.n_features_in_)

    def __init__(self, estimator: Any, *, scores: dict[Any, float] | None = None) -> None:
        self.estimator = estimator
        self.scores = scores

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Train the classifier.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.
        y : array-like of shape (n_texts,)
            Their labels.
        **fit_params : object
            Further arguments of the classifier's ``fit``; with scikit-learn's metadata routing,
            those that it requests.

        Returns
        -------
        OrdinalClassifier
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain, or two labels have the same score.
        InvalidLabelsError
            If labels are of a wrong kind, or one has no score.
        """
        self._validate_params()
        labels = check_labels(y)
        _read_scores(np.unique(labels), self.scores)  # before a long training
        inner: Any = clone(self.estimator)
        self.estimator_ = inner.fit(X, labels, **self._route(fit_params))
        self.scores_ = _read_scores(np.asarray(self.classes_), self.scores)
        ORDINAL.note_stated(self)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the median label of each text.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``: the lowest for which it and the lower ones together
            have a probability of one half or more.
        """
        return self._decide(self._ask("predict_proba", X))

    def _decide(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        order = np.argsort(self.scores_)
        up_to = np.cumsum(probabilities[:, order], axis=1)
        median = np.argmax(up_to >= up_to[:, -1:] / 2, axis=1)
        return np.asarray(self.classes_)[order[median]]

    def expected_score(self, X: Any) -> NDArray[np.float64]:
        """Return the mean score of each text, over the probabilities of its labels.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.

        Returns
        -------
        ndarray of shape (n_texts,)
            Scores, between the lowest and the highest of ``scores_``.
        """
        return self._ask("predict_proba", X) @ self.scores_


def _read_scores(classes: NDArray[Any], scores: dict[Any, float] | None) -> NDArray[np.float64]:
    """Return the score of each label, of shape (n_classes,)."""
    names = classes.tolist()
    if scores is None:
        if classes.dtype.kind not in "biuf":
            example = ", ".join(f"{name!r}: {score}" for score, name in enumerate(names[:2], 1))
            msg = (
                f"Labels are no numbers, such as {names[0]!r}, so nothing says their order. Give "
                f"the 'scores' of all labels, in the manner of {{{example}, …}}."
            )
            raise InvalidLabelsError(msg)
        return classes.astype(np.float64)
    if missing := [name for name in names if name not in scores]:
        msg = (
            f"Label {missing[0]!r} has no score. The 'scores' parameter has those of "
            f"{list(scores)!r}. Add it, or correct its spelling."
        )
        raise InvalidLabelsError(msg)
    found = [scores[name] for name in names]
    are_numbers = all(isinstance(score, Real) and np.isfinite(score) for score in found)
    if not are_numbers or len(set(found)) < len(found):
        msg = (
            "The 'scores' parameter must give each label a finite number of its own. Got "
            f"{scores!r} instead."
        )
        raise InvalidParameterError(msg)
    return np.array(found, dtype=np.float64)
