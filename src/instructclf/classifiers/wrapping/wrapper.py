"""What classifiers around a classifier share: its probabilities, and the arguments of its fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import get_tags, indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.wrapping.storing.stored import StoredClassifier
from instructclf.inputs.texts import check_texts


def _has(method: str) -> Callable[[ClassifierWrapper], bool]:
    """Return a check for a method of the inner classifier."""

    def check(wrapper: ClassifierWrapper) -> bool:
        getattr(getattr(wrapper, "estimator_", wrapper.estimator), method)
        return True

    return check


class ClassifierWrapper(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Base of classifiers around ``estimator``, which ``fit`` makes into ``estimator_``."""

    estimator: Any
    estimator_: Any

    classes_ = property(lambda self: self.estimator_.classes_)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each label, if the classifier has probabilities.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Probabilities, columns in the order of ``classes_``.
        """
        return self._ask("predict_proba", X)

    @available_if(_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the log-probability of each label, if the classifier has probabilities.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Log-probabilities, columns in the order of ``classes_``.
        """
        return self._ask("predict_log_proba", X)

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the decision values, if the classifier has any.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.

        Returns
        -------
        ndarray of shape (n_texts,) or (n_texts, n_classes)
            The result of the classifier.
        """
        return self._ask("decision_function", X)

    def _ask(self, method: str, X: Any) -> Any:
        check_is_fitted(self)
        return getattr(self.estimator_, method)(self._check(X))

    def _decide(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """Return the labels that ``predict`` returns for texts with these probabilities."""
        return decide(self.estimator_, probabilities)

    def _check(self, X: Any) -> Any:
        """Return what the inner classifier is asked about."""
        return X

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the arguments that ``fit`` passes on, for scikit-learn's metadata routing.

        Returns
        -------
        MetadataRouter
            The requests of the inner classifier, and those of ``score``.
        """
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        methods = MethodMapping().add(caller="fit", callee="fit")
        return router.add(estimator=self.estimator, method_mapping=methods)

    def _route(self, fit_params: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that the classifier's ``fit`` requests, or all without routing."""
        if not get_config()["enable_metadata_routing"]:
            return fit_params
        return process_routing(self, "fit", **fit_params).estimator.fit

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = deepcopy(get_tags(self.estimator))
        tags.classifier_tags, tags.input_tags = inner.classifier_tags, inner.input_tags
        return tags


def decides_by_probabilities(classifier: Any) -> bool:
    """Say whether a fitted classifier predicts what `decide` makes of its probabilities.

    The classifiers of this package do, around each other too. Others need not: the probabilities of
    a support vector machine come from another model, and a tuned threshold changes predictions
    alone.
    """
    if isinstance(classifier, ClassifierWrapper):
        return decides_by_probabilities(classifier.estimator_)
    return isinstance(classifier, StoredClassifier) or hasattr(classifier, "label_log_likelihood")


def predict_from(classifier: Any, probabilities: NDArray[np.float64], X: Any) -> NDArray[Any]:
    """Return what a classifier predicts for rows with these probabilities.

    It reads the rows again only where the probabilities do not tell.
    """
    if decides_by_probabilities(classifier):
        return decide(classifier, probabilities)
    return np.asarray(classifier.predict(X))


def decide(classifier: Any, probabilities: NDArray[np.float64]) -> NDArray[Any]:
    """Return the labels that a classifier predicts for texts with these probabilities."""
    if isinstance(classifier, ClassifierWrapper):
        return classifier._decide(probabilities)  # noqa: SLF001
    return np.asarray(classifier.classes_)[probabilities.argmax(axis=1)]


def check_rows(X: Any) -> Any:
    """Return rows that can be taken by number: those that scikit-learn knows, else texts."""
    if isinstance(X, list | np.ndarray) or issparse(X) or hasattr(X, "iloc"):
        return indexable(X)[0]
    return check_texts(X)


def take_rows(fit_params: Mapping[str, Any], rows: NDArray[np.intp], n_rows: int) -> dict[str, Any]:
    """Reduce arguments of ``fit`` that have an entry for each row to some of the rows."""
    return {name: _take(name, value, rows, n_rows) for name, value in fit_params.items()}


def _take(name: str, value: Any, rows: NDArray[np.intp], n_rows: int) -> Any:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__") or issparse(value):
        return value
    if len(value) == n_rows:
        return np.asarray(value)[rows]
    if name.rsplit("__", maxsplit=1)[-1] == "sample_weight":
        msg = f"Got {len(value)} values of {name} for {n_rows} texts. Give one for each text."
        raise ValueError(msg)
    return value
