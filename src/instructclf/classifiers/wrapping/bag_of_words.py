"""Texts and labels → a linear classifier on counts of words, to put beside a language model."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.labels import check_enough_classes
from instructclf.classifiers.weights import positive_rows
from instructclf.classifiers.wrapping.splits import split_rows
from instructclf.classifiers.wrapping.storing.bag_of_words import BagOfWordsFormat
from instructclf.classifiers.wrapping.storing.stored import StoredClassifier
from instructclf.engine.running.progress import tell
from instructclf.exceptions import InvalidTextsError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts

_STRENGTHS = (1.0, 10.0, 30.0, 100.0)
"""The inverse strengths of regularisation that are tried. Few rows need 1, thousands 30 or more."""
_UNTRIED = 10.0


class BagOfWordsClassifier(StoredClassifier, ClassifierMixin, BaseEstimator):
    """Classify texts by their words and pairs of words, with logistic regression on TF-IDF.

    It learns in seconds and needs no language model. With a few rows a label it is far behind one;
    with thousands of rows it is a baseline that is hard to beat.

    Parameters
    ----------
    C : "auto" or float, default="auto"
        The inverse strength of regularisation. ``"auto"`` takes the one of 1, 10, 30 and 100 with
        the lowest log loss on rows that ``fit`` holds out: in four folds up to 512 rows, of more
        once a quarter. Without two rows of each label it takes 10.
    ngram_range : tuple of (int, int), default=(1, 2)
        The shortest and the longest sequence of words that is counted. ``(1, 1)`` needs less
        memory.
    random_state : int, RandomState instance or None, default=None
        Decides which rows are held out to choose ``C``.
    verbose : int or bool, default=0
        Whether to write a line about the ``C`` that was chosen.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    C_ : float
        The inverse strength of regularisation that was taken.
    vectorizer_ : TfidfVectorizer
        What counts the words of a text.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        The coefficients of each label against all others, of two labels those of the second.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Their intercepts.

    See Also
    --------
    BlendedClassifier : Averages it with language models, by what held-out rows say of each.

    Notes
    -----
    With more than two labels, one regression tells each label from all others, and their
    probabilities are divided by their sum. This is solved sooner than one regression of all labels.

    Examples
    --------
    >>> from instructclf import BagOfWordsClassifier
    >>> from instructclf.datasets import load_reviews
    >>> train = load_reviews("train")
    >>> words = BagOfWordsClassifier(random_state=0).fit(train.texts, train.labels)
    >>> words.predict(["A waste of money.", "A great gift, and easy to use."]).tolist()
    ['negative', 'positive']
    """

    _FORMAT = BagOfWordsFormat()
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "ngram_range": [tuple],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    classes_: NDArray[Any]
    vectorizer_: TfidfVectorizer
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(
        self,
        *,
        C: str | float = "auto",
        ngram_range: tuple[int, int] = (1, 2),
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.C = C
        self.ngram_range = ngram_range
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Count the words, choose ``C``, and learn the coefficients.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        sample_weight : array-like of shape (n_texts,) or None, default=None
            How much each text counts. One of weight 0 counts as left out.

        Returns
        -------
        BagOfWordsClassifier
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain.
        InvalidTextsError
            If ``X`` is no sequence of strings, or no text has a word of two letters or digits.
        InvalidLabelsError
            If labels are of a wrong kind, of one class only, or not as many as texts.
        ValueError
            If a weight is negative or not finite, or there is not one for each text.
        """
        self._validate_params()
        labels, texts = check_labels(y), check_texts(X)
        check_same_length(texts, labels)
        rows, weights = positive_rows(sample_weight, texts)
        classes, codes = np.unique(labels[rows], return_inverse=True)
        check_enough_classes(classes)
        vectorizer = TfidfVectorizer(ngram_range=self.ngram_range)
        counts = _count(vectorizer, [texts[row] for row in rows])
        self.C_ = float(self._choose(counts, codes, weights) if self.C == "auto" else self.C)
        self.coef_, self.intercept_ = _regress(counts, codes, weights, self.C_)
        self.classes_, self.vectorizer_ = classes, vectorizer
        return self

    def _choose(
        self, counts: Any, codes: NDArray[np.intp], weights: NDArray[np.float64] | None
    ) -> float:
        """Return the inverse strength with the lowest log loss on rows held out."""
        if np.bincount(codes).min() < 2:
            return _UNTRIED
        shares = np.ones(len(codes)) if weights is None else weights
        losses = dict.fromkeys(_STRENGTHS, 0.0)
        splits = split_rows(codes, "auto", self.random_state)
        for learned, held_out in splits:
            for C in _STRENGTHS:
                found = _regress(counts[learned], codes[learned], shares[learned], C)
                said = _log_probabilities(counts[held_out], *found)
                right = said[np.arange(len(held_out)), codes[held_out]]
                losses[C] -= float(shares[held_out] @ right)
        best = min(losses, key=losses.__getitem__)
        mean = losses[best] / sum(shares[held_out].sum() for _, held_out in splits)
        line = f"C={best:g} has the lowest log loss on held-out rows, {mean:.3f}"
        tell(line, verbose=self.verbose)
        return best

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
        check_is_fitted(self, "vectorizer_")
        counts = self.vectorizer_.transform(check_texts(X))
        return _log_probabilities(counts, self.coef_, self.intercept_)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each label. Rows sum to 1.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Probabilities, columns in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``.
        """
        best = self.predict_log_proba(X).argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _count(vectorizer: TfidfVectorizer, texts: list[str]) -> Any:
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        msg = (
            f"None of the {len(texts)} texts has a word of two letters or digits, so there is "
            "nothing to count. Give other texts, or a classifier that reads characters."
        )
        raise InvalidTextsError(msg) from error


def _regress(
    counts: Any, codes: NDArray[np.intp], weights: NDArray[np.float64] | None, C: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coefficients and intercepts of each label against all others; of two, of one."""
    n_classes = int(codes.max()) + 1
    fitted = [
        LogisticRegression(C=C, solver="liblinear", max_iter=1000).fit(
            counts, codes == code, sample_weight=weights
        )
        for code in ([1] if n_classes == 2 else range(n_classes))
    ]
    return np.vstack([one.coef_ for one in fitted]), np.hstack([one.intercept_ for one in fitted])


def _log_probabilities(
    counts: Any, coef: NDArray[np.float64], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    margins = counts @ coef.T + intercept
    said = log_expit(np.hstack([-margins, margins]) if margins.shape[1] == 1 else margins)
    return said - logsumexp(said, axis=1, keepdims=True)
