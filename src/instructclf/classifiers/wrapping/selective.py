"""Any classifier → one that labels the texts it is sure of, at a stated risk, and no others."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval

from instructclf.classifiers.label_scores import leave_open
from instructclf.classifiers.wrapping.holding_out import HoldingOut
from instructclf.classifiers.wrapping.storing.learned import SELECTIVE
from instructclf.classifiers.wrapping.storing.stored import StoredClassifier
from instructclf.classifiers.wrapping.thresholds import find_threshold, rows_needed
from instructclf.exceptions import AllAbstainedWarning, InvalidLabelsError, warn_caller
from instructclf.inputs.labels import check_labels, check_same_length


class Likeliest(NamedTuple):
    """The likeliest label of each text, and its probability, both of shape (n_texts,)."""

    labels: NDArray[Any]
    confidence: NDArray[np.float64]


class Judged(NamedTuple):
    """The confidence of each held-out row, and whether its label is right, both (n_rows,)."""

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]


class SelectiveClassifier(StoredClassifier, HoldingOut):
    """Label the texts of which a classifier is sure enough, and leave the others open.

    State how often a label may be wrong. ``fit`` learns from labelled rows how sure the classifier
    must be: it finds a ``threshold_`` above which at most a share of ``risk`` of the labels is
    wrong. ``predict`` labels a text if its largest probability is above the threshold, and returns
    ``None`` for the others, which then go to a person.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier with ``predict_proba``, such as `PromptClassifier`, a pipeline
        or a search. ``fit`` trains a clone of it, unless ``cv="prefit"``.
    risk : float, default=0.05
        The largest acceptable share of wrong labels among those that are given, above 0 and below
        1. A lower risk leaves more texts without a label, and needs more held-out rows. Set it to
        what a wrong label may cost you; the default allows one wrong label in twenty.
    confidence : float, default=0.95
        The probability, over draws of the held-out rows, that the risk is kept. A higher confidence
        leaves more texts without a label. The default is the usual level of confidence; raise it if
        exceeding the risk even once would be serious.
    cv : float, int, splitter, iterable or "prefit", default=0.5
        The rows that the threshold is learned from. The default suits a classifier that learns from
        many rows. For a prompt, which needs few, hold out more, such as ``0.8``.

        - A float holds out this share of the rows, stratified by label, and the classifier learns
          from the others. The risk is guaranteed. The same holds for any splitter of one split.
        - ``"prefit"``: ``estimator`` is fitted already, and the threshold is learned from all rows.
          The risk is guaranteed if the classifier has seen none of them, not even in a search. Take
          it to learn the threshold again for new texts.
        - An int, or a splitter of several splits, cross-fits. Each row is judged by a classifier
          that has not seen it, and the final one learns from all rows. Take it if rows are scarce:
          the threshold comes from all of them. The risk is **not guaranteed**, because the final
          classifier is none of those that were judged. It is usually kept, because the final one
          has learned from more rows.
    random_state : int, RandomState instance or None, default=None
        Decides which rows a float holds out. Set it to get the same threshold again. Splitters have
        a ``random_state`` of their own.

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Its labels.
    threshold_ : float
        A text gets its likeliest label if the probability exceeds this: 0 labels all texts,
        infinity none.
    coverage_ : float
        The share of the held-out rows that get a label: an estimate of it for new texts.
    held_out_ : ndarray of shape (n_held_out,)
        The rows of ``X`` that the threshold was learned from.

    See Also
    --------
    instructclf.evaluation.RiskCoverageDisplay : Shows the risk at every share of labelled texts.

    Notes
    -----
    The guarantee: draw held-out rows again and again, and learn a threshold from each draw. In at
    least ``confidence`` of the draws, at most ``risk`` of all texts above the threshold get a wrong
    label. It assumes that rows and texts come from the same source, each independent of the others:
    it does not hold for texts of another kind, nor for rows that are near copies of each other.
    Wrong means different from ``y``. The risk is that of all labels together; a larger share of a
    single label may be wrong. To keep the guarantee, put a search inside, as ``estimator``. A
    search around this classifier chooses by rows that are held out afterwards.

    Even if all held-out rows are right, ``log(1 - confidence) / log(1 - risk)`` of them are needed:
    59 by default. With fewer, ``fit`` raises an error; give a few hundred, since some rows will be
    wrong. The probabilities need not be calibrated; they only have to be larger where the
    classifier is more often right. If no threshold keeps the risk, no text gets a label, and `fit`
    gives an `AllAbstainedWarning`.

    Thresholds are tested in a fixed sequence with exact binomial bounds, as in Angelopoulos et al.,
    "Learn then Test: Calibrating predictive algorithms to achieve risk control" (Annals of Applied
    Statistics 19(2), 2025). Geifman and El-Yaniv, "Selective classification for deep neural
    networks" (NeurIPS 2017), stated the task. If several rows have the same probability, the proof
    assumes that they are right no more often than rows of a larger one; otherwise it assumes
    nothing of the kind.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from instructclf import SelectiveClassifier
    >>> from instructclf.datasets import load_reviews
    >>> train = load_reviews("train")
    >>> regression = make_pipeline(TfidfVectorizer(), LogisticRegression())
    >>> selective = SelectiveClassifier(regression, risk=0.3, random_state=0)
    >>> answers = selective.fit(train.texts, train.labels).predict(["A waste of money.", "Hm."])
    >>> answers.tolist()
    ['negative', None]
    """

    _FORMAT = SELECTIVE
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HoldingOut._parameter_constraints,
        "risk": [Interval(Real, 0, 1, closed="neither")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        risk: float = 0.05,
        confidence: float = 0.95,
        cv: Any = 0.5,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.risk = risk
        self.confidence = confidence
        self.cv = cv
        self.random_state = random_state

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Train the classifier, and learn the threshold from rows that it has not seen.

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
        SelectiveClassifier
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain, or ``cv`` holds out a row twice.
        InvalidTextsError
            If ``X`` is neither a matrix nor a sequence of strings.
        InvalidLabelsError
            If labels are of a wrong kind, or too few rows are held out to guarantee the risk.
        ValueError
            If the number of labels differs from that of texts.
        NotFittedError
            If ``cv="prefit"`` and the classifier is not fitted.

        Warns
        -----
        AllAbstainedWarning
            If no threshold keeps the risk, so that no text gets a label.
        """
        judged = self._fit_and_judge(X, y, fit_params, check=self._check_enough, judge=_judge)
        self._learn_threshold(judged)
        SELECTIVE.note_stated(self)
        return self

    def _check_enough(self, labels: NDArray[Any], n_rows: int) -> None:
        needed, held_out = rows_needed(self.risk, self.confidence), len(labels)
        if held_out < needed:
            possible = 1 - (1 - self.confidence) ** (1 / held_out)
            msg = (
                f"To guarantee risk={self.risk} with confidence={self.confidence} takes at least "
                f"{needed} held-out rows, even if all are right. Of the {n_rows} rows given, "
                f"{held_out} are held out, which can show a risk of {possible:.3f} at best. "
                "Give more labelled rows, hold out more of them in 'cv', or accept a higher risk."
            )
            raise InvalidLabelsError(msg)

    def _learn_threshold(self, judged: list[Judged]) -> None:
        confidences, correct = map(np.concatenate, zip(*judged, strict=True))
        self.threshold_ = find_threshold(
            confidences, correct, risk=self.risk, confidence=self.confidence
        )
        self.coverage_ = float(np.mean(confidences > self.threshold_))
        if self.threshold_ == np.inf:
            msg = (
                f"No threshold keeps risk={self.risk} with confidence={self.confidence}, so no "
                f"text gets a label. Of the {len(correct)} held-out rows, {np.mean(~correct):.3f} "
                "are wrong, and too many of those with the largest probabilities. Give more "
                "labelled rows, accept a higher risk, or take a better classifier."
            )
            warn_caller(msg, AllAbstainedWarning)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each text that is decided, and ``None`` for the others.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``, of dtype object, and ``None``, which scikit-learn's
            metrics refuse, where the classifier abstains.
        """
        return self._decide(self._ask("predict_proba", X))

    def _decide(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        likeliest = _find_likeliest(self.estimator_, np.asarray(probabilities))
        return leave_open(likeliest.labels, ~(likeliest.confidence > self.threshold_))

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of texts that get the right label.

        A text without a label counts as one with a wrong label. Among classifiers that keep the
        same risk, a search finds the one that decides most.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts, or whatever the classifier takes.
        y : array-like of shape (n_texts,)
            Their labels.
        sample_weight : array-like of shape (n_texts,) or None, default=None
            How much each text counts.

        Returns
        -------
        float
            The share, from 0 to 1.
        """
        answers, labels = self.predict(X), check_labels(y)
        check_same_length(answers.tolist(), labels)
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=float)
        return float(np.average(answers == labels, weights=weights))


def _judge(classifier: Any, rows: Any, labels: NDArray[Any]) -> Judged:
    likeliest = _find_likeliest(classifier, np.asarray(classifier.predict_proba(rows)))
    return Judged(likeliest.confidence, likeliest.labels == labels)


def _find_likeliest(classifier: Any, probabilities: NDArray[np.float64]) -> Likeliest:
    labels = np.asarray(classifier.classes_)[probabilities.argmax(axis=1)]
    return Likeliest(labels, probabilities.max(axis=1))
