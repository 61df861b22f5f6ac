"""Several classifiers → one that counts each of them as much as held-out rows support."""

from __future__ import annotations

import time
from copy import deepcopy
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import _safe_indexing, check_consistent_length, get_tags
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.weights import positive_rows
from instructclf.classifiers.wrapping.pooling import choose_best, find_weights
from instructclf.classifiers.wrapping.splits import split_rows
from instructclf.classifiers.wrapping.storing.blends import BlendFormat
from instructclf.classifiers.wrapping.storing.stored import StoredClassifier
from instructclf.classifiers.wrapping.trials import LabelledRows, align, cool, try_classifiers
from instructclf.classifiers.wrapping.weighing import weigh
from instructclf.classifiers.wrapping.wrapper import check_rows
from instructclf.engine.running.progress import tell
from instructclf.inputs.labels import check_labels


class BlendedClassifier(StoredClassifier, MetaEstimatorMixin, ClassifierMixin, _BaseComposition):
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
        held-out rows. Take it if predictions must be cheap; it is less accurate on average.
    cv : "auto", int, float, splitter or iterable, default="auto"
        Which rows are held out. An int cross-validates in so many folds, and every classifier then
        learns from all rows: with ``cv=4``, ``fit`` takes about four times as long as a fit of each
        classifier. A float holds out this share of the rows once, stratified by label, and the
        classifiers that learned from the others are kept. ``"auto"``: 4 folds up to 512 rows.
        Of more, it holds out a quarter, but at most 512. Give a float if fits take long.
    max_seconds : float or None, default=None
        The time for all trials on held-out rows, without the fits to all rows that follow.
        Classifiers are tried cheapest first: without a language model, prompting, tuning. The
        first one that would exceed the time, judged by its first fold, is left out, and so are
        those after it; ``cv_results_`` names them. The cheapest is always tried. A fold that has
        begun is finished. ``None`` tries all; keep it in a job of several processes.
    random_state : int, RandomState instance or None, default=None
        Decides which rows are held out. Set it to get the same weights again.
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
        What the log-probabilities of each classifier are divided by. Above 1 means that it was
        overconfident.
    cv_results_ : dict of str to ndarray of shape (n_classifiers,)
        What was tried: ``name``, ``weight``, ``temperature``, ``log_loss`` and ``accuracy`` on
        held-out rows with their standard errors ``log_loss_se`` and ``accuracy_se``,
        ``fit_seconds`` of one fit, ``seconds_per_text`` of a prediction, and ``trial_seconds`` of
        all of it. ``finished`` is False, and the scores are NaN, for those that ``max_seconds``
        left out. ``pandas.DataFrame`` takes it.

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

    ``save`` writes the classifiers that count, so ``estimators`` of a loaded blend has no others.

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

    _FORMAT = BlendFormat()
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimators": [list],
        "method": [StrOptions({"blend", "best"})],
        "cv": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither"), "cv_object"],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
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
        max_seconds: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimators = estimators
        self.method = method
        self.cv = cv
        self.max_seconds = max_seconds
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Try all classifiers on held-out rows, weigh them, and fit those that count.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifiers take.
        y : array-like of shape (n_texts,)
            Their labels.
        sample_weight : array-like of shape (n_texts,) or None, default=None
            How much each text counts, in the fits and among the held-out rows. One of weight 0
            counts as left out. A `PromptClassifier` shows rows and weighs none.

        Returns
        -------
        BlendedClassifier
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain, if there are no classifiers, or if one has a bad
            name, no ``predict_proba``, or a ``fit`` without the ``sample_weight`` that was given.
        InvalidTextsError
            If ``X`` is neither a matrix nor a sequence of strings.
        InvalidLabelsError
            If labels are of a wrong kind, or a label has too few rows to hold one out.
        ValueError
            If the number of labels differs from that of texts, or weights are negative.
        """
        self._validate_params()
        self._check_estimators(weighted=sample_weight is not None)
        rows = _read_rows(X, y, sample_weight)
        splits = split_rows(rows.labels, self.cv, self.random_state, rows.texts)
        trials = try_classifiers(
            self.estimators,
            rows,
            splits,
            max_seconds=self.max_seconds,
            clock=time.perf_counter,
            tell=partial(tell, verbose=self.verbose),
        )
        tested = np.concatenate([held_out for _, held_out in splits])
        found = weigh(
            trials,
            rows.labels,
            tested,
            find_weights if self.method == "blend" else choose_best,
            None if rows.weights is None else rows.weights[tested],
        )
        self.classes_, self.weights_, self.temperatures_, self.cv_results_ = found
        self.estimators_ = {
            name: trials[name].fitted if len(splits) == 1 else rows.fit(estimator)
            for name, estimator in self.estimators
            if self.weights_[name]
        }
        return self

    def _check_estimators(self, *, weighted: bool) -> None:
        if not self.estimators:
            msg = (
                "The 'estimators' parameter of BlendedClassifier must be a list of (name, "
                "classifier), and is empty. Take those of list_approaches(model)."
            )
            raise InvalidParameterError(msg)
        self._validate_names([name for name, _ in self.estimators])
        for name, estimator in self.estimators:
            if not hasattr(estimator, "predict_proba"):
                msg = (
                    f"The classifier {name!r} has no predict_proba, which averaging needs. Wrap "
                    "it in sklearn.calibration.CalibratedClassifierCV, or take a classifier with "
                    "probabilities, such as LogisticRegression."
                )
                raise InvalidParameterError(msg)
            takes_weights = has_fit_parameter(estimator, "sample_weight")
            if weighted and not takes_weights and not isinstance(estimator, PromptClassifier):
                msg = (
                    f"sample_weight was given, and the fit of {name!r}, a "
                    f"{type(estimator).__name__}, takes none. Leave the weights out, or take a "
                    "classifier that learns with them, such as BagOfWordsClassifier."
                )
                raise InvalidParameterError(msg)

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


def _read_rows(X: Any, y: Any, sample_weight: Any) -> LabelledRows:
    labels, texts = check_labels(y), check_rows(X)
    check_consistent_length(texts, labels)
    positions, weights = positive_rows(sample_weight, labels)
    if weights is None:
        return LabelledRows(texts, labels, None)
    return LabelledRows(_safe_indexing(texts, positions), labels[positions], weights)
