"""Uncertainty times diversity: rows that cover the regions in which the model is uncertain.

The idea comes from AdaICL (Mavromatis et al. 2023, arXiv 2310.20046), which covers hard regions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_consistent_length

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling.facility_location import cover_greedily
from instructclf.sampling.representative import RepresentativeSampler, select_in_order
from instructclf.sampling.rows import different_rows


class UncertaintySampler(BaseEstimator):
    """Choose rows close to those about which the model is uncertain, equally many of every label.

    The model predicts the rows without shots. The shots then cover the rows as in
    `FacilityLocationSampler`, with each row weighted by its uncertainty: the next shot most raises
    the sum, over rows, of uncertainty times the cosine to the most similar shot. A shot therefore
    represents a region in which the model is uncertain. It need not be an uncertain row itself:
    those are often odd or wrongly labelled, and make poor shots.

    Parameters
    ----------
    uncertainty : {"entropy", "margin", "least_confident"}, default="entropy"
        The measure, between 0 and 1: the entropy of a row's probabilities relative to the maximum,
        one minus the gap between the two highest, or one minus the highest. With two labels, all
        three rank rows alike.
    prefer : {"uncertain", "certain"}, default="uncertain"
        Whether rows are weighted by their uncertainty or by one minus it.
    embedder : transformer, str, path or None, default=None
        Compares texts: a scikit-learn transformer, the name or folder of a sentence encoder (needs
        the ``sentences`` extra), or ``None`` for TF-IDF. Sparse rows are reduced to 128 columns.
    n_candidates : int or None, default=100
        How many rows of each label are considered, drawn at random. The model predicts each of
        them once. ``None`` considers all.

    Attributes
    ----------
    needs_probabilities : bool
        ``True``: ``select`` takes ``predict_proba``.

    See Also
    --------
    FacilityLocationSampler : Covers all rows equally, without asking a model.

    Examples
    --------
    >>> import numpy as np
    >>> from instructclf.sampling import UncertaintySampler
    >>> texts = ["good phone", "great phone", "good book", "bad phone", "bad book", "poor book"]
    >>> labels = ["positive"] * 3 + ["negative"] * 3
    >>> def predict_proba(texts):
    ...     return np.array([[0.5, 0.5] if "book" in text else [0.9, 0.1] for text in texts])
    >>> shots = UncertaintySampler().select(
    ...     texts, labels, 4, random_state=0, predict_proba=predict_proba
    ... )
    >>> sorted(labels[i] for i in shots)
    ['negative', 'negative', 'positive', 'positive']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RepresentativeSampler._parameter_constraints,
        "uncertainty": [StrOptions({"entropy", "margin", "least_confident"})],
        "prefer": [StrOptions({"uncertain", "certain"})],
    }

    needs_probabilities: ClassVar[bool] = True

    def __init__(
        self,
        uncertainty: str = "entropy",
        *,
        prefer: str = "uncertain",
        embedder: Any = None,
        n_candidates: int | None = 100,
    ) -> None:
        self.uncertainty = uncertainty
        self.prefer = prefer
        self.embedder = embedder
        self.n_candidates = n_candidates

    def select(
        self,
        X: Sequence[str],
        y: ArrayLike,
        n_shots: int,
        *,
        random_state: int | np.random.RandomState | None = None,
        predict_proba: Callable[[list[str]], ArrayLike] | None = None,
    ) -> NDArray[np.intp]:
        """Choose the rows that become shots.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        n_shots : int
            How many rows to choose.
        random_state : int, RandomState instance or None, default=None
            Controls the candidates and the order of labels in a round.
        predict_proba : callable
            Takes a list of texts and returns the model's probability of each label without shots,
            of shape (n_texts, n_classes). A classifier with this sampler passes its method. Called
            once per label, with its candidates.

        Returns
        -------
        ndarray of shape (n_shots,)
            Indices into ``X``, in the order of the prompt.

        Raises
        ------
        InvalidTextsError
            If ``X`` is not a sequence of strings.
        InvalidShotsError
            If ``n_shots`` is more than the number of different rows or less than the number of
            labels, or if ``predict_proba`` is missing or does not return probabilities.
        """
        self._validate_params()
        if predict_proba is None:
            msg = (
                "UncertaintySampler needs predict_proba, which returns a model's probabilities "
                "without shots, such as that of a fitted PromptClassifier(n_shots=0)."
            )
            raise InvalidShotsError(msg)

        def order(
            texts: list[str], embeddings: NDArray[np.float64], _: np.random.RandomState
        ) -> Iterable[int]:
            weights = weigh_rows(predict_proba(texts), texts, self.uncertainty, self.prefer)
            return cover_greedily(embeddings, weights)

        return select_in_order(
            different_rows(X, y),
            n_shots,
            check_random_state(random_state),
            order=order,
            embedder=self.embedder,
            n_candidates=self.n_candidates,
        )


def weigh_rows(
    predicted: ArrayLike, texts: list[str], uncertainty: str, prefer: str = "uncertain"
) -> NDArray[np.float64]:
    """Return the weight of each row from its probabilities, of shape (n_texts,)."""
    weights = _UNCERTAINTIES[uncertainty](_check_probabilities(predicted, texts))
    if prefer == "certain":
        weights = 1 - weights
    highest = weights.max()
    # Scaled so that equal weights are exactly 1 and rounding does not break ties.
    return (weights / highest).clip(0) if highest > 0 else np.ones(len(texts))


def _check_probabilities(predicted: ArrayLike, texts: list[str]) -> NDArray[np.float64]:
    probabilities = check_array(predicted)
    check_consistent_length(probabilities, texts)
    if probabilities.shape[1] < 2 or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        msg = (
            "predict_proba must return an array of shape (n_texts, n_classes) with rows that sum "
            f"to 1. Got shape {probabilities.shape} with a first row of {probabilities[0]}."
        )
        raise InvalidShotsError(msg)
    return probabilities


def _entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return entr(probabilities).sum(axis=1) / np.log(probabilities.shape[1])


def _margin(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    two_highest = np.sort(probabilities, axis=1)[:, -2:]
    return 1 - (two_highest[:, 1] - two_highest[:, 0])


def _least_confident(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - probabilities.max(axis=1)


_UNCERTAINTIES = {"entropy": _entropy, "margin": _margin, "least_confident": _least_confident}
