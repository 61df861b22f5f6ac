"""Sampler name → sampler, and the one method that a sampler has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling.balanced import BalancedSampler


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


SAMPLERS: dict[str, type[ShotSampler]] = {"balanced": BalancedSampler}


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
