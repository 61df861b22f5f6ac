"""Representative rows: an order of each label's rows whose beginning represents all of them.

A subclass supplies the order of one label's rows, computed from their embeddings. Any number of
shots takes the beginning of that order, so the shots for 8 are the first 8 of those for 16.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import HasMethods, Interval

from instructclf.sampling.base import RowSampler
from instructclf.sampling.embedding import TextEmbedding
from instructclf.sampling.rows import LabelledRows, check_n_shots, take_in_rounds

Order = Callable[[list[str], NDArray[np.float64], np.random.RandomState], Iterable[int]]
"""Texts of one label, their embeddings, a generator → all their positions, the best one first."""

EMBEDDER = [HasMethods(["fit", "transform"]), str, PathLike, None]
"""The constraints of the ``embedder`` parameter."""


class RepresentativeSampler(RowSampler):
    """Base of samplers that order each label's rows by how well they represent the others."""

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

    def _select(
        self, rows: LabelledRows, n_shots: int, rng: np.random.RandomState
    ) -> NDArray[np.intp]:
        return select_in_order(
            rows,
            n_shots,
            rng,
            order=lambda _, embeddings, rng: self._order(embeddings, rng),
            embedder=self.embedder,
            n_candidates=self.n_candidates,
        )


def select_in_order(
    rows: LabelledRows,
    n_shots: int,
    rng: np.random.RandomState,
    *,
    order: Order,
    embedder: Any,
    n_candidates: int | None,
) -> NDArray[np.intp]:
    """Take the beginnings of the labels' orders, in rounds of one row of every label."""
    check_n_shots(n_shots, len(rows.groups), sum(rows.sizes))
    # Shuffled, so that ties are not broken alphabetically.
    shuffled = [rng.permutation(group) for group in rows.groups]
    candidates = [group[:n_candidates] for group in shuffled]
    embedding = TextEmbedding(embedder, seed=int(rng.randint(np.iinfo(np.int32).max)))
    embeddings = embedding.fit_transform(rows.texts_at(np.concatenate(candidates)))
    ends = np.cumsum([len(group) for group in candidates])[:-1]
    queues = [
        chain(
            _in_order(considered, order(rows.texts_at(considered), embedded, rng)),
            group[len(considered) :],  # in case a label needs more than its candidates
        )
        for group, considered, embedded in zip(
            shuffled, candidates, np.split(embeddings, ends), strict=True
        )
    ]
    return take_in_rounds(queues, rows.sizes, n_shots, rng)


def _in_order(rows: NDArray[np.intp], positions: Iterable[int]) -> Iterator[np.intp]:
    return (rows[position] for position in positions)
