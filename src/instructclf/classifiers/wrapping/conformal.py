"""Any classifier → one that predicts sets of labels, which hold the right one at a stated rate."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from instructclf.classifiers.wrapping.holding_out import HoldingOut
from instructclf.classifiers.wrapping.quantiles import find_least_probability, rows_needed
from instructclf.classifiers.wrapping.storing.learned import CONFORMAL
from instructclf.classifiers.wrapping.storing.stored import StoredClassifier
from instructclf.exceptions import InvalidLabelsError


class ConformalClassifier(StoredClassifier, HoldingOut):
    """Predict sets of labels that contain the right one with a stated probability.

    Learns from labelled rows how probable a label has to be to belong to the set of a text.
    ``predict_set`` returns the sets: one label where the classifier is sure, several where it
    cannot tell them apart. ``predict`` and ``predict_proba`` are those of the classifier.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier with ``predict_proba``. ``fit`` trains a clone of it, unless
        ``cv="prefit"``.
    confidence_level : float, default=0.9
        The least probability that the set of a text contains its right label, above 0 and below 1.
        A higher level makes larger sets and needs more held-out rows: 9 for the default, 99 for
        0.99.
    class_conditional : bool, default=False
        Whether the level holds for the texts of each label separately. With False it holds for all
        texts together, and a rare or difficult label may be missing from its sets more often. Set
        it if such a label matters. Each label then needs held-out rows of its own, and sets are
        usually larger.
    cv : float, int, splitter, iterable or "prefit", default=0.5
        The rows that calibrate the sets. The default suits a classifier that learns from many rows.
        For a prompt, which needs few, hold out more, such as ``0.8``.

        - A float holds out this share of the rows, stratified by label, and the classifier learns
          from the others. The level is guaranteed. The same holds for any splitter of one split.
        - ``"prefit"``: ``estimator`` is fitted already, and all rows calibrate. The level is
          guaranteed if the classifier has seen none of them, not even in a search. Take it to
          calibrate again for new texts.
        - An int, or a splitter of several splits, cross-fits. Each row is judged by a classifier
          that has not seen it, and the final one learns from all rows. Take it if rows are scarce.
          The level is **not guaranteed**, because the final classifier is none of those that were
          judged. It is usually kept, because the final one has learned from more rows.
    random_state : int, RandomState instance or None, default=None
        Decides which rows a float holds out. Set it to get the same sets again.

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Its labels.
    thresholds_ : ndarray of shape (n_classes,)
        A label is in the set of a text if its probability is at least this. Without
        ``class_conditional`` all are equal.
    held_out_ : ndarray of shape (n_held_out,)
        Which rows of ``X`` the sets were calibrated with.

    See Also
    --------
    SelectiveClassifier : Gives one label or none, and states how often it is wrong.
    instructclf.evaluation.set_coverage : The share of sets that contain the right label.
    instructclf.evaluation.mean_set_size : The mean number of labels in a set.

    Notes
    -----
    This is split conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in a
    Random World", Springer 2005) with the sets of Sadinle, Lei and Wasserman, "Least Ambiguous
    Set-Valued Classifiers with Bounded Error Levels" (Journal of the American Statistical
    Association 114, 2019). The probabilities need not be calibrated: better ones only make smaller
    sets. ``class_conditional`` is the label-conditional, or Mondrian, form of both.

    The guarantee is a mean over draws of held-out rows and texts, which must come from the same
    source. With ``n`` held-out rows the coverage of one fitted object, over all texts, has the
    distribution Beta(k, n + 1 - k), where ``k`` is ``(n + 1) * confidence_level``, rounded up, or a
    higher one where probabilities are equal (Angelopoulos and Bates, "Conformal Prediction: A
    Gentle Introduction", Foundations and Trends in Machine Learning 16(4), 2023). At a level of
    0.9 it is between 0.84 and 0.96 in nine of ten draws of 64 rows, and between 0.88 and 0.92 in
    nine of ten draws of 1,000.

    At least ``confidence_level / (1 - confidence_level)`` held-out rows are needed, 9 by default;
    with fewer, ``fit`` raises an error. A set may be empty: no label is then as probable as right
    labels usually are. It happens where the classifier is right more often than the level asks.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from instructclf import ConformalClassifier
    >>> from instructclf.datasets import load_reviews
    >>> train = load_reviews("train")
    >>> regression = make_pipeline(TfidfVectorizer(), LogisticRegression())
    >>> conformal = ConformalClassifier(regression, random_state=0)
    >>> fitted = conformal.fit(train.texts, train.labels)
    >>> sets = fitted.predict_set(["Great, works perfectly.", "Hm."])
    >>> [fitted.classes_[row].tolist() for row in sets]
    [['positive'], ['negative', 'positive']]
    """

    _FORMAT = CONFORMAL
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HoldingOut._parameter_constraints,
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "class_conditional": ["boolean"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        confidence_level: float = 0.9,
        class_conditional: bool = False,
        cv: Any = 0.5,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.confidence_level = confidence_level
        self.class_conditional = class_conditional
        self.cv = cv
        self.random_state = random_state

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Train the classifier, and calibrate the sets with rows that it has not seen.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.
        y : array-like of shape (n_texts,)
            Their labels.
        **fit_params : object
            Further arguments of the classifier's ``fit``; with scikit-learn's metadata routing,
            those that it requests. An array with an entry for each text, such as ``sample_weight``,
            is reduced to the rows it learns from. Held-out rows all weigh the same.

        Returns
        -------
        ConformalClassifier
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain, or ``cv`` holds out a row twice.
        InvalidTextsError
            If ``X`` is neither a matrix nor a sequence of strings.
        InvalidLabelsError
            If labels are of a wrong kind, too few rows are held out for the level, or the
            classifier does not know the label of a held-out row.
        ValueError
            If the number of labels differs from that of texts.
        NotFittedError
            If ``cv="prefit"`` and the classifier is not fitted.
        """
        judged = self._fit_and_judge(X, y, fit_params, check=self._check_enough, judge=_judge)
        labels, right = map(np.concatenate, zip(*judged, strict=True))
        groups = [np.full(len(labels), fill_value=True)]
        if self.class_conditional:
            self._check_each(labels, self.classes_)  # one may have no row at all
            groups = [labels == label for label in self.classes_]
        found = [find_least_probability(right[of], self.confidence_level) for of in groups]
        self.thresholds_ = np.resize(found, len(self.classes_))
        CONFORMAL.note_stated(self)
        return self

    def _check_enough(self, labels: NDArray[Any], n_rows: int) -> None:
        if self.class_conditional:
            self._check_each(labels, np.unique(labels))
            return
        needed, n = rows_needed(self.confidence_level), len(labels)
        if n < needed:
            msg = (
                f"confidence_level={self.confidence_level} takes at least {needed} held-out rows. "
                f"Of the {n_rows} rows given, {n} are held out, which allow a level of {n}/{n + 1} "
                "at most. Give more labelled rows, hold out more of them in 'cv', or lower the "
                "level."
            )
            raise InvalidLabelsError(msg)

    def _check_each(self, labels: NDArray[Any], classes: NDArray[Any]) -> None:
        """Raise an error if a class has too few of these labels."""
        needed = rows_needed(self.confidence_level)
        counts = {label: int(np.sum(labels == label)) for label in classes.tolist()}
        if few := [f"{count} of {label!r}" for label, count in counts.items() if count < needed]:
            msg = (
                f"With class_conditional=True, confidence_level={self.confidence_level} takes at "
                f"least {needed} held-out rows of each label. {len(labels)} rows are held out, "
                f"with too few of some labels: {', '.join(few)}. Give more rows of these, hold out "
                "more in 'cv', lower the level, or set class_conditional=False."
            )
            raise InvalidLabelsError(msg)

    def predict_set(self, X: Any) -> NDArray[np.bool_]:
        """Return which labels are in the set of each text.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            ``True`` for the labels in a set, columns in the order of ``classes_``. A row may be
            all ``False``.
        """
        return np.asarray(self.predict_proba(X)) >= self.thresholds_

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label that the classifier predicts, whether it is in the set or not.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``.
        """
        return self._ask("predict", X)


def _judge(
    classifier: Any, rows: Any, labels: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the labels of rows, and the probabilities that a classifier gives to them."""
    classes = np.asarray(classifier.classes_).tolist()
    columns = {label: column for column, label in enumerate(classes)}
    if unknown := sorted(set(labels.tolist()) - set(columns), key=str):
        msg = (
            f"Held-out rows have the label {unknown[0]!r}, which the classifier does not know. It "
            f"knows {classes!r}. Give more rows of this label, state all labels in "
            "label_definitions, or correct its spelling."
        )
        raise InvalidLabelsError(msg)
    codes = [columns[label] for label in labels.tolist()]
    return labels, np.asarray(classifier.predict_proba(rows))[np.arange(len(labels)), codes]
