"""Several classifiers → one that counts each of them as much as held-out rows support."""

from __future__ import annotations

from copy import deepcopy
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, check_cv
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from instructclf.calibration.labelled_rows import fit_temperature
from instructclf.classifiers.wrapping.pooling import choose_best, find_weights
from instructclf.classifiers.wrapping.trials import (
    Split,
    Trial,
    align,
    cool,
    mean_and_error,
    try_classifier,
)
from instructclf.classifiers.wrapping.wrapper import check_rows
from instructclf.engine.running.progress import tell
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels

_FEW_ROWS = 512
"""Up to so many rows are cross-validated. Of more, as many, but at most a quarter, are held out."""
_N_FOLDS = 4


class BlendedClassifier(MetaEstimatorMixin, ClassifierMixin, _BaseComposition):
    """Average several classifiers, each weighted by how well it explains rows it has not seen.

    Which approach is best changes with the task, and a few labelled rows do not tell for sure. So
    this classifier cross-validates all of them, fits the temperature of each on its held-out
    answers, and averages their probabilities. With few rows the weights stay near equal; with many
    rows the best mixture decides. Classifiers that hardly count are left out, so they cost nothing
    in predictions.

    Parameters
    ----------
    estimators : list of (str, classifier)
        Names and classifiers with ``predict_proba``, such as those of `list_approaches`. Each is
        cloned. Nested names reach them: ``tuning__learning_rate``.
    method : {"blend", "best"}, default="blend"
        ``"blend"`` averages. ``"best"`` takes the one classifier with the lowest log loss on
        held-out rows: its predictions cost less, and it is chosen wrongly more often.
    cv : "auto", int, float, splitter or iterable, default="auto"
        Which rows are held out. An int cross-validates in so many folds, and every classifier then
        learns from all rows: with ``cv=4``, ``fit`` takes about four times as long as a fit of each
        classifier. A float holds out this share of the rows once, stratified by label, and the
        classifiers that learned from the others are kept. ``"auto"``: 4 folds up to 512 rows.
        Of more, it holds out a quarter, but at most 512.
    random_state : int, RandomState instance or None, default=None
        Decides which rows are held out.
    verbose : int or bool, default=0
        Whether to write a line for each classifier that was tried.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    weights_ : dict of str to float
        The weight of each classifier. They sum to 1.
    estimators_ : dict of str to classifier
        The fitted classifiers, without those of weight 0.
    temperatures_ : dict of str to float
        What the log-probabilities of each classifier are divided by: above 1, it was too sure.
    cv_results_ : dict of str to ndarray of shape (n_classifiers,)
        What was tried: ``name``, ``weight``, ``temperature``, ``log_loss`` and ``accuracy`` on
        held-out rows with their standard errors ``log_loss_se`` and ``accuracy_se``, and the
        seconds of all fits and of all predictions that it took, ``fit_seconds`` and
        ``predict_seconds``. ``pandas.DataFrame`` takes it.

    See Also
    --------
    instructclf.evaluation.compare : Compares classifiers on test rows, and chooses none.

    Notes
    -----
    The weights are those of a linear pool, the most probable ones under a prior of two rows for
    each classifier. Stacking by likelihood: Yao et al., "Using Stacking to Average Bayesian
    Predictive Distributions", Bayesian Analysis 13(3), 2018. Classifiers are not averaged as
    `sklearn.ensemble.VotingClassifier` does it, because that numbers the labels first, and a
    language model needs their names.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn.pipeline import make_pipeline
    >>> from instructclf import BlendedClassifier
    >>> from instructclf.datasets import load_reviews
    >>> train = load_reviews("train")
    >>> regression = make_pipeline(TfidfVectorizer(), LogisticRegression())
    >>> bayes = make_pipeline(TfidfVectorizer(), MultinomialNB())
    >>> blend = BlendedClassifier([("regression", regression), ("bayes", bayes)], random_state=0)
    >>> blend.fit(train.texts, train.labels).predict(["A waste of money."]).tolist()
    ['negative']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimators": [list],
        "method": [StrOptions({"blend", "best"})],
        "cv": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither"), "cv_object"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    n_features_in_ = property(lambda self: next(iter(self.estimators_.values())).n_features_in_)

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        method: str = "blend",
        cv: Any = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimators = estimators
        self.method = method
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002  (scikit-learn's)
        """Return the parameters, including the classifiers by name and their parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return those of the classifiers too, such as ``tuning__learning_rate``.

        Returns
        -------
        dict
            Values by name.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, a classifier by its name, or a parameter of a classifier.

        Parameters
        ----------
        **params : object
            Values by name.

        Returns
        -------
        BlendedClassifier
            This object.
        """
        self._set_params("estimators", **params)
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Try all classifiers on held-out rows, weigh them, and fit those that count.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifiers take.
        y : array-like of shape (n_texts,)
            Their labels.

        Returns
        -------
        BlendedClassifier
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain, if there are no classifiers, or if one has a bad
            name or no ``predict_proba``.
        InvalidTextsError
            If ``X`` is neither a matrix nor a sequence of strings.
        InvalidLabelsError
            If labels are of a wrong kind, or a label has too few rows to hold one out.
        ValueError
            If the number of labels differs from that of texts.
        """
        self._validate_params()
        names = self._check_names()
        labels, rows = check_labels(y), check_rows(X)
        check_consistent_length(rows, labels)
        splits = self._split(rows, labels)
        tested = np.concatenate([held_out for _, held_out in splits])
        trials = {}
        for name, estimator in self.estimators:
            trial = trials[name] = try_classifier(estimator, rows, labels, splits)
            seconds = trial.fit_seconds + trial.predict_seconds
            tell(f"Tried {name} on held-out rows: {seconds:.0f} s", verbose=self.verbose)
        known = [known for trial in trials.values() for known, _ in trial.said]
        self.classes_ = np.unique(np.concatenate([labels, *known]))
        self._weigh(names, trials, np.searchsorted(self.classes_, labels[tested]))
        self.estimators_ = {}
        for name, estimator in self.estimators:
            if self.weights_[name]:
                inner: Any = clone(estimator)
                has_one = len(splits) == 1
                self.estimators_[name] = trials[name].fitted if has_one else inner.fit(rows, labels)
        return self

    def _check_names(self) -> list[str]:
        if not self.estimators:
            msg = (
                "The 'estimators' parameter of BlendedClassifier must be a list of (name, "
                "classifier), and is empty. Take those of list_approaches(model)."
            )
            raise InvalidParameterError(msg)
        names = [name for name, _ in self.estimators]
        self._validate_names(names)
        for name, estimator in self.estimators:
            if not hasattr(estimator, "predict_proba"):
                msg = (
                    f"The classifier {name!r} has no predict_proba, which averaging needs. Wrap "
                    "it in sklearn.calibration.CalibratedClassifierCV, or take a classifier with "
                    "probabilities, such as LogisticRegression."
                )
                raise InvalidParameterError(msg)
        return names

    def _split(self, rows: Any, labels: NDArray[Any]) -> list[Split]:
        """Return the rows to learn from and the rows held out, of each split."""
        names, counts = np.unique(labels, return_counts=True)
        if counts.min() < 2:
            msg = (
                f"Label {names.tolist()[counts.argmin()]!r} has a single row, so it cannot be held "
                "out and learned from. Give at least two rows of each label, or fit one classifier "
                "alone."
            )
            raise InvalidLabelsError(msg)
        cv: Any = check_cv(self._splitter(int(counts.min()), len(labels)), labels, classifier=True)
        return [(np.asarray(a), np.asarray(b)) for a, b in cv.split(rows, labels)]

    def _splitter(self, n_rarest: int, n_rows: int) -> Any:
        cv, seed = self.cv, self.random_state
        if cv == "auto" and n_rows <= _FEW_ROWS:
            cv = min(_N_FOLDS, n_rarest)
        elif cv == "auto":
            cv = min(1 / _N_FOLDS, _FEW_ROWS / n_rows)
        if isinstance(cv, Integral):
            return StratifiedKFold(int(cv), shuffle=True, random_state=seed)
        if isinstance(cv, Real):
            return StratifiedShuffleSplit(1, test_size=float(cv), random_state=seed)
        return cv

    def _weigh(self, names: list[str], trials: dict[str, Trial], codes: NDArray[np.intp]) -> None:
        said = [trials[name].log_probabilities(self.classes_) for name in names]
        temperatures = [fit_temperature(one, codes) for one in said]
        here = np.arange(len(codes))
        right = np.column_stack(
            [np.exp(cool(one, t))[here, codes] for one, t in zip(said, temperatures, strict=True)]
        )
        weights = (find_weights if self.method == "blend" else choose_best)(right)
        losses, hits = -np.log(right), np.array([one.argmax(axis=1) == codes for one in said]).T
        self.weights_ = dict(zip(names, weights.tolist(), strict=True))
        self.temperatures_ = dict(zip(names, temperatures, strict=True))
        self.cv_results_ = {
            "name": np.array(names),
            "weight": weights,
            "temperature": np.array(temperatures),
            **mean_and_error("log_loss", losses),
            **mean_and_error("accuracy", hits),
            "fit_seconds": np.array([trials[name].fit_seconds for name in names]),
            "predict_seconds": np.array([trials[name].predict_seconds for name in names]),
        }

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the weighted mean of the classifiers' probabilities.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifiers take.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Probabilities, columns in the order of ``classes_``.
        """
        check_is_fitted(self, "estimators_")
        rows, parts = check_rows(X), []
        for name, fitted in self.estimators_.items():
            probabilities = np.asarray(fitted.predict_proba(rows))
            said = align(np.asarray(fitted.classes_), probabilities, self.classes_)
            parts.append(self.weights_[name] * np.exp(cool(said, self.temperatures_[name])))
        return np.sum(parts, axis=0)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of ``predict_proba``.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifiers take.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Log-probabilities, columns in the order of ``classes_``.
        """
        return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each text.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifiers take.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.estimators:
            tags.input_tags = deepcopy(get_tags(self.estimators[0][1]).input_tags)
        return tags
