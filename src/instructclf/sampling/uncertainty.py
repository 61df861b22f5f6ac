"""Uncertainty times diversity: rows that cover what the model is unsure about.

After AdaICL (Mavromatis et al. 2023, arXiv 2310.20046), which covers the regions of hard rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_consistent_length

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling.facility_location import cover_greedily
from instructclf.sampling.representative import RepresentativeSampler, select_in_order


class UncertaintySampler(BaseEstimator):
    """Take rows that lie close to the rows of which the model is unsure, as many of every label.

    The model predicts the rows without shots. Each row then counts by its uncertainty, and the
    shots cover the rows as in `FacilityLocationSampler`: the next shot is the one that most raises
    the sum over rows of uncertainty times the cosine to the most similar shot. So a shot stands
    for a region in which the model is unsure. It need not be an unsure row itself; those alone are
    often odd or wrongly labelled, and poor shots.

    Parameters
    ----------
    uncertainty : {"entropy", "margin", "least_confident"}, default="entropy"
        What counts as unsure, between 0 and 1: the entropy of a row's probabilities divided by
        that of equal ones, one minus the distance of the two highest, or one minus the highest.
        For two labels all three order rows alike.
    prefer : {"uncertain", "certain"}, default="uncertain"
        Whether rows count by their uncertainty or by one minus it.
    embedder : transformer, str, path or None, default=None
        What makes texts comparable: a scikit-learn transformer of texts, the name or folder of a
        sentence encoder (takes the ``sentences`` extra), or ``None`` for TF-IDF. Sparse results
        are reduced to 128 columns by a truncated SVD.
    n_candidates : int or None, default=100
        Different rows of each label, drawn at random, that are considered. The model predicts each
        of them once. ``None`` considers all.

    Attributes
    ----------
    needs_probabilities : bool
        ``True``: ``select`` takes ``predict_proba``.

    See Also
    --------
    FacilityLocationSampler : Covers all rows alike, and asks no model.

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
            Decides the candidates and the order of labels in a round.
        predict_proba : callable
            Takes a list of texts and returns an array of shape (n_texts, n_classes): how probable
            the model finds each label without shots. A classifier that has this sampler gives its
            own. Called once for each label, with its candidates.

        Returns
        -------
        ndarray of shape (n_shots,)
            Indices into ``X``, in the order in which the shots belong into a prompt.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidShotsError
            If there are fewer different rows than shots, or fewer shots than labels, or
            ``predict_proba`` is missing or gives no probabilities.
        MissingExtraError
            If ``embedder`` names a sentence encoder and sentence-transformers is not installed.
        """
        self._validate_params()
        if predict_proba is None:
            msg = (
                "UncertaintySampler needs predict_proba, which says how probable a model finds "
                "each label without shots: that of PromptClassifier(n_shots=0) after fit, say."
            )
            raise InvalidShotsError(msg)

        def order(
            texts: list[str], embeddings: NDArray[np.float64], _: np.random.RandomState
        ) -> Iterable[int]:
            return cover_greedily(embeddings, self._weigh(predict_proba(texts), texts))

        return select_in_order(
            X,
            y,
            n_shots,
            order=order,
            embedder=self.embedder,
            n_candidates=self.n_candidates,
            random_state=random_state,
        )

    def _weigh(self, predicted: ArrayLike, texts: list[str]) -> NDArray[np.float64]:
        """Return how much each row counts, of shape (n_texts,)."""
        probabilities = _check_probabilities(predicted, texts)
        weights = _UNCERTAINTIES[self.uncertainty](probabilities)
        if self.prefer == "certain":
            weights = 1 - weights
        highest = weights.max()
        # Rows that count alike count 1, so that rounding does not decide among equal merits.
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
