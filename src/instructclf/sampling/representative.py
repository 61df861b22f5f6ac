"""Representative rows: each label's rows in an order whose beginning stands for all of them.

A subclass supplies one thing, the order of one label's rows from their embeddings. What any number
of shots takes is the beginning of that order, so the shots for 8 are the first 8 of those for 16.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval

from instructclf.sampling.embedding import TextEmbedding
from instructclf.sampling.rows import (
    check_a_shot_of_every_label,
    check_enough_rows,
    different_rows,
    take_in_rounds,
)

Order = Callable[[list[str], NDArray[np.float64], np.random.RandomState], Iterable[int]]
"""Texts of one label, their embeddings, a generator → all their positions, the best one first."""

EMBEDDER = [HasMethods(["fit", "transform"]), str, PathLike, None]
"""What an embedder may be."""


class RepresentativeSampler(BaseEstimator, metaclass=ABCMeta):
    """Base of samplers that order each label's rows by how well they stand for the others."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "embedder": EMBEDDER,
        "n_candidates": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(self, *, embedder: Any = None, n_candidates: int | None = 1000) -> None:
        self.embedder = embedder
        self.n_candidates = n_candidates

    @abstractmethod
    def _order(self, embeddings: NDArray[np.float64], rng: np.random.RandomState) -> Iterable[int]:
        """Return all positions of one label's rows, the first shot first."""

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
            Decides the candidates, the order of labels in a round, and what else is random.

        Returns
        -------
        ndarray of shape (n_shots,)
            Indices into ``X``, in the order in which the shots belong into a prompt.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidShotsError
            If there are fewer different rows than shots, or fewer shots than labels.
        MissingExtraError
            If ``embedder`` names a sentence encoder and sentence-transformers is not installed.
        """
        self._validate_params()
        return select_in_order(
            X,
            y,
            n_shots,
            order=lambda _, embeddings, rng: self._order(embeddings, rng),
            embedder=self.embedder,
            n_candidates=self.n_candidates,
            random_state=random_state,
        )


def select_in_order(
    X: Sequence[str],
    y: ArrayLike,
    n_shots: int,
    *,
    order: Order,
    embedder: Any,
    n_candidates: int | None,
    random_state: int | np.random.RandomState | None,
) -> NDArray[np.intp]:
    """Take the beginnings of the labels' orders, in rounds of one row of every label."""
    rows = different_rows(X, y)
    check_a_shot_of_every_label(n_shots, len(rows.groups))
    check_enough_rows(n_shots, sum(rows.sizes))
    rng = check_random_state(random_state)
    # Shuffled, so that rows of equal merit are not taken by the alphabet.
    shuffled = [rng.permutation(group) for group in rows.groups]
    candidates = [group[:n_candidates] for group in shuffled]
    embedding = TextEmbedding(embedder, seed=int(rng.randint(np.iinfo(np.int32).max)))
    embeddings = embedding.fit_transform(rows.texts_at(np.concatenate(candidates)))
    ends = np.cumsum([len(group) for group in candidates])[:-1]
    queues = [
        chain(
            _in_order(own, order(rows.texts_at(own), embedded, rng)),
            group[len(own) :],  # should a label give more than its candidates
        )
        for group, own, embedded in zip(
            shuffled, candidates, np.split(embeddings, ends), strict=True
        )
    ]
    return take_in_rounds(queues, rows.sizes, n_shots, rng)


def _in_order(rows: NDArray[np.intp], positions: Iterable[int]) -> Iterator[np.intp]:
    return (rows[position] for position in positions)
