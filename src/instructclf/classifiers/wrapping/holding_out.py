"""Labelled rows → a classifier, and what is learned from rows that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedShuffleSplit, check_cv
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
)
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.wrapping.wrapper import ClassifierWrapper, check_rows, take_rows
from instructclf.inputs.labels import check_labels

_Judgement = TypeVar("_Judgement")


class HoldingOut(ClassifierWrapper):
    """Base of classifiers around one with probabilities that learn from rows it has not seen.

    Subclasses have the parameters ``cv`` and ``random_state``. Their ``fit`` calls
    `_fit_and_judge`.
    """

    cv: Any
    random_state: int | np.random.RandomState | None
    held_out_: NDArray[np.intp]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "cv": [Interval(Real, 0, 1, closed="neither"), StrOptions({"prefit"}), "cv_object"],
        "random_state": ["random_state"],
    }

    n_features_in_ = property(lambda self: self.estimator_.n_features_in_)

    def _fit_and_judge(
        self,
        X: Any,
        y: Any,
        fit_params: dict[str, Any],
        *,
        check: Callable[[NDArray[Any], int], None],
        judge: Callable[[Any, Any, NDArray[Any]], _Judgement],
    ) -> list[_Judgement]:
        """Fit ``estimator_``, and return what held-out rows say of the classifier of each split.

        ``check(labels, n_rows)`` raises an error if rows with these labels, of so many given, are
        too few to hold out. ``judge(classifier, rows, labels)`` makes one of the values returned.
        """
        self._validate_params()
        labels, rows = check_labels(y), check_rows(X)
        check_consistent_length(rows, labels)
        splits = self._split(rows, labels)
        self.held_out_ = np.concatenate([tested for _, tested in splits])
        self._check_once()
        check(labels[self.held_out_], len(labels))
        routed = self._route(fit_params)

        def train(on: NDArray[np.intp] | None) -> Any:
            if on is None:
                return self.estimator
            inner: Any = clone(self.estimator)
            taken = take_rows(routed, on, len(labels))
            return inner.fit(_safe_indexing(rows, on), labels[on], **taken)

        trained = [train(learned) for learned, _ in splits]
        judged = [
            judge(classifier, _safe_indexing(rows, tested), labels[tested])
            for classifier, (_, tested) in zip(trained, splits, strict=True)
        ]
        self.estimator_ = trained[0] if len(splits) == 1 else train(np.arange(len(labels)))
        return judged

    def _split(self, rows: Any, labels: NDArray[Any]) -> list[tuple[Any, NDArray[np.intp]]]:
        """Return the rows to learn from, if any, and the rows held out, of each split."""
        if self.cv == "prefit":
            check_is_fitted(self.estimator)
            return [(None, np.arange(len(labels)))]
        cv: Any = check_cv(self._splitter(), labels, classifier=True)
        splits = cv.split(rows, labels)
        return [(np.asarray(learned), np.asarray(tested)) for learned, tested in splits]

    def _splitter(self) -> Any:
        if isinstance(self.cv, Real) and not isinstance(self.cv, Integral):
            return StratifiedShuffleSplit(1, test_size=self.cv, random_state=self.random_state)
        return self.cv

    def _check_once(self) -> None:
        """Raise an error if a row is held out twice."""
        held_out = self.held_out_
        twice = held_out[np.flatnonzero(np.bincount(held_out)[held_out] > 1)]
        if len(twice):
            msg = (
                "The 'cv' parameter must hold out each row at most once, because only independent "
                f"rows can guarantee anything. Got {self.cv!r}, which holds out row {twice[0]} "
                "several times. Give an int, such as 5, or a share, such as 0.5."
            )
            raise InvalidParameterError(msg)
