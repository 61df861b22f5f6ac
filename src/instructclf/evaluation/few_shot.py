"""Any classifier → a classifier that is trained on a few sampled rows."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval

from instructclf.classifiers.wrapping.wrapper import ClassifierWrapper, take_rows
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.sampling import ShotSampler, get_sampler


class FewShot(ClassifierWrapper):
    """Train a classifier on a few of the given rows, drawn by a sampler.

    With it, a baseline learns from as few labels as a language model does, also in a grid search or
    a cross-validation. `compare` does not need it: there all approaches learn from the same rows.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier of texts. It is cloned, never fitted itself.
    n_shots : int or None, default=16
        The number of rows to learn from. ``None`` takes all, in the given order.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    random_state : int, RandomState instance or None, default=None
        Determines which rows are drawn, and their order.

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Its labels.
    shots_ : ndarray of shape (n_shots,)
        The rows of ``X`` that it learned from, in the order drawn.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> from instructclf.datasets import load_reviews
    >>> from instructclf.evaluation import FewShot
    >>> train = load_reviews("train")
    >>> svm = FewShot(make_pipeline(TfidfVectorizer(), LinearSVC()), n_shots=4, random_state=0)
    >>> svm.fit(train.texts, train.labels).shots_.shape
    (4,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        "sampler": [str, ShotSampler],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        n_shots: int | None = 16,
        sampler: str | ShotSampler = "balanced",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_shots = n_shots
        self.sampler = sampler
        self.random_state = random_state

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Draw rows and train the classifier on them.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        **fit_params : object
            Further arguments of the classifier's ``fit``; with scikit-learn's metadata routing,
            those that it requests. An array with an entry for each text, such as ``sample_weight``,
            is reduced to the drawn rows.

        Returns
        -------
        FewShot
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain.
        InvalidTextsError
            If ``X`` is not a sequence of strings, or is empty.
        InvalidLabelsError
            If labels do not fit the texts.
        InvalidShotsError
            If ``n_shots`` rows cannot be drawn.
        ValueError
            If the number of ``sample_weight`` differs from the number of texts.
        """
        self._validate_params()
        labels, texts = _check_classes(y), check_texts(X)
        check_same_length(texts, labels)
        routed = self._route(fit_params)
        self.shots_ = self._draw(texts, labels)
        cut = take_rows(routed, self.shots_, len(texts))
        self.estimator_ = clone(self.estimator)
        self.estimator_.fit([texts[i] for i in self.shots_.tolist()], labels[self.shots_], **cut)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each text.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``.
        """
        return self._ask("predict", X)

    def _check(self, X: Any) -> list[str]:
        return check_texts(X)

    def _draw(self, texts: list[str], labels: NDArray[Any]) -> NDArray[np.intp]:
        if self.n_shots is None:
            return np.arange(len(texts), dtype=np.intp)
        rng = check_random_state(self.random_state)
        return get_sampler(self.sampler).select(texts, labels, self.n_shots, random_state=rng)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _check_classes(y: Any) -> NDArray[Any]:
    """Return labels of two classes or more."""
    labels = check_labels(y)
    if len(np.unique(labels)) < 2:
        msg = (
            "Classifier can't train when only one class is present. Give rows of two labels or "
            "more."
        )
        raise InvalidLabelsError(msg)
    return labels
