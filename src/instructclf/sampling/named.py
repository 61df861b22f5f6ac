"""Sampler name → sampler, and what the classifiers may ask of one."""

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
    """Whatever chooses shots among labelled rows."""

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
            Decides which rows are drawn, and their order.

        Returns
        -------
        ndarray of shape (n_shots,)
            Indices into ``X``, in the order in which the shots belong into a prompt.
        """
        ...


@runtime_checkable
class PerInputSampler(ShotSampler, Protocol):
    """Whatever chooses other shots for each text that is classified.

    ``fit`` keeps what it needs on the sampler, so fit a clone of one that belongs to somebody else.
    """

    def fit(
        self,
        X: Sequence[str],
        y: ArrayLike,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> Self:
        """Keep the rows to choose among.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        random_state : int, RandomState instance or None, default=None
            Decides what is left to chance.

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
            Whether a row with the very text that is asked for is left out.

        Returns
        -------
        list of ndarray of shape (n_shots,)
            For each text, indices into the ``X`` of ``fit``, in the order in which the shots
            belong into its prompt.
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
    """Return the sampler of this name, or the sampler itself.

    Parameters
    ----------
    sampler : str or object with a select method
        A name, or a sampler, which comes back unchanged.

    Returns
    -------
    object with a select method
        The sampler.

    Raises
    ------
    InvalidShotsError
        If no sampler has this name and the value has no ``select`` method.
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
    """Choose shots with any sampler, and give it the model's probabilities if it needs them.

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
        Decides which rows are drawn, and their order.
    predict_proba : callable or None, default=None
        Takes a list of texts and returns how probable a model finds each label without shots, of
        shape (n_texts, n_classes). Called only by samplers with a true ``needs_probabilities``.

    Returns
    -------
    ndarray of shape (n_shots,)
        Indices into ``X``, in the order in which the shots belong into a prompt.

    Raises
    ------
    InvalidShotsError
        If there is no such sampler or it cannot choose so many shots.
    """
    chosen = get_sampler(sampler)
    needed: dict[str, Any] = {}
    if getattr(chosen, "needs_probabilities", False):
        needed["predict_proba"] = predict_proba
    return chosen.select(X, y, n_shots, random_state=random_state, **needed)
