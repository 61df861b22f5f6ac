"""Sampler name → sampler, and the interface of samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling.balanced import BalancedSampler
from instructclf.sampling.facility_location import FacilityLocationSampler
from instructclf.sampling.kmeans import KMeansSampler
from instructclf.sampling.neighbours import KNNSampler
from instructclf.sampling.uncertainty import UncertaintySampler
from instructclf.sampling.uniform import RandomSampler
from instructclf.sampling.vote_k import VoteKSampler


@runtime_checkable
class ShotSampler(Protocol):
    """An object that chooses shots among labelled rows."""

    def select(
        self,
        X: Sequence[str],
        y: ArrayLike,
        n_shots: int,
        *,
        random_state: int | np.random.RandomState | None = None,
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
            Controls everything that is random.

        Returns
        -------
        ndarray of shape (n_shots,)
            Indices into ``X``, in the order of the prompt.
        """
        ...


@runtime_checkable
class PerInputSampler(ShotSampler, Protocol):
    """A sampler that chooses different shots for each text.

    ``fit`` changes the sampler, so classifiers fit a clone of the user's.
    """

    def fit(
        self,
        X: Sequence[str],
        y: ArrayLike,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> Self:
        """Store the rows to choose from.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        random_state : int, RandomState instance or None, default=None
            Controls everything that is random.

        Returns
        -------
        PerInputSampler
            The fitted sampler.
        """
        ...

    def select_for(
        self, X: Sequence[str], n_shots: int, *, leave_out: bool = False
    ) -> list[NDArray[np.intp]]:
        """Choose the rows that become shots for each text.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts to classify.
        n_shots : int
            How many rows to choose for each.
        leave_out : bool, default=False
            Whether to leave out rows with the same text.

        Returns
        -------
        list of ndarray of shape (n_shots,)
            For each text, indices into the ``X`` of ``fit``, in the order of the prompt.
        """
        ...


SAMPLERS: dict[str, type[ShotSampler]] = {
    "balanced": BalancedSampler,
    "random": RandomSampler,
    "kmeans": KMeansSampler,
    "facility_location": FacilityLocationSampler,
    "vote_k": VoteKSampler,
    "uncertainty": UncertaintySampler,
    "knn": KNNSampler,
}


def get_sampler(sampler: str | ShotSampler) -> ShotSampler:
    """Return the sampler with this name, or the given sampler itself.

    Parameters
    ----------
    sampler : str or object with a select method
        A name, or a sampler, which is returned unchanged.

    Returns
    -------
    object with a select method
        The sampler.

    Raises
    ------
    InvalidShotsError
        If there is no sampler with this name, and the value has no ``select`` method.
    """
    if isinstance(sampler, str) and sampler in SAMPLERS:
        return SAMPLERS[sampler]()
    if isinstance(sampler, ShotSampler) and not isinstance(sampler, type):
        return sampler
    known = ", ".join(repr(name) for name in SAMPLERS)
    msg = (
        f"The 'sampler' parameter must be one of {known} or an object with a 'select' method. "
        f"Got {sampler!r} instead."
    )
    raise InvalidShotsError(msg)


def select_shots(
    sampler: str | ShotSampler,
    X: Sequence[str],
    y: ArrayLike,
    n_shots: int,
    *,
    random_state: int | np.random.RandomState | None = None,
    predict_proba: Callable[[list[str]], ArrayLike] | None = None,
) -> NDArray[np.intp]:
    """Choose shots with any sampler, passing the model's probabilities if it needs them.

    Parameters
    ----------
    sampler : str or object with a select method
        A name, or a sampler.
    X : sequence of str, length n_texts
        The texts.
    y : array-like of shape (n_texts,)
        Their labels.
    n_shots : int
        How many rows to choose.
    random_state : int, RandomState instance or None, default=None
        Controls everything that is random.
    predict_proba : callable or None, default=None
        Takes a list of texts and returns a model's probability of each label without shots, of
        shape (n_texts, n_classes). Passed only to samplers with a true ``needs_probabilities``.

    Returns
    -------
    ndarray of shape (n_shots,)
        Indices into ``X``, in the order of the prompt.

    Raises
    ------
    InvalidShotsError
        If there is no such sampler, or it cannot choose that many shots.
    """
    resolved = get_sampler(sampler)
    extra: dict[str, Any] = {}
    if getattr(resolved, "needs_probabilities", False):
        extra["predict_proba"] = predict_proba
    return resolved.select(X, y, n_shots, random_state=random_state, **extra)
