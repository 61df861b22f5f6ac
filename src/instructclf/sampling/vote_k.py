"""Vote-k: rows that get many votes from neighbours without a shot.

Su et al., "Selective Annotation Makes Language Models Better Few-Shot Learners" (ICLR 2023;
arXiv 2209.01975, 2022), section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils._param_validation import Interval

from instructclf.sampling.representative import RepresentativeSampler

_SHARE = 20
_FEWEST = 5


class VoteKSampler(RepresentativeSampler):
    """Choose the rows with the most votes from their neighbours, equally many of every label.

    Every row votes for the ``n_neighbors`` most similar rows of its label. The next shot is the row
    with the most votes. A vote counts ``discount ** -m`` if the voter voted for m shots before, and
    nothing if the voter is a shot. This is the graph stage of vote-k, which its authors call fast
    vote-k. Their second stage asks the model for its confidence; see `UncertaintySampler`.

    Parameters
    ----------
    n_neighbors : int or None, default=None
        How many rows each row votes for. ``None`` takes a twentieth of the label's candidates, as
        in the paper (150 of 3,000), but at least 5.
    discount : float, default=10.0
        A row's vote is divided by this for every shot that the row voted for; 1 or more.
    embedder : transformer, str, path or None, default=None
        Compares texts: a scikit-learn transformer, the name or folder of a sentence encoder (needs
        the ``sentences`` extra), or ``None`` for TF-IDF. Sparse rows are reduced to 128 columns.
    n_candidates : int or None, default=1000
        How many rows of each label are considered, drawn at random. More take more time; fewer let
        seeds differ more. ``None`` considers all.

    See Also
    --------
    FacilityLocationSampler : Maximises the coverage of all rows, without a graph.

    Examples
    --------
    >>> from instructclf.sampling import VoteKSampler
    >>> texts = ["good phone", "great phone", "good book", "bad phone", "bad book", "poor book"]
    >>> labels = ["positive"] * 3 + ["negative"] * 3
    >>> shots = VoteKSampler(n_neighbors=1).select(texts, labels, 4, random_state=0)
    >>> sorted(labels[i] for i in shots)
    ['negative', 'negative', 'positive', 'positive']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RepresentativeSampler._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "discount": [Interval(Real, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_neighbors: int | None = None,
        *,
        discount: float = 10.0,
        embedder: Any = None,
        n_candidates: int | None = 1000,
    ) -> None:
        super().__init__(embedder=embedder, n_candidates=n_candidates)
        self.n_neighbors = n_neighbors
        self.discount = discount

    def _order(
        self,
        embeddings: NDArray[np.float64],
        rng: np.random.RandomState,  # noqa: ARG002  (not random)
    ) -> Iterator[int]:
        n_rows = len(embeddings)
        n_neighbors = self.n_neighbors or max(_FEWEST, n_rows // _SHARE)
        if n_rows == 1:
            return iter([0])
        return _elect(_vote(embeddings, min(n_neighbors, n_rows - 1)), self.discount)


def _vote(embeddings: NDArray[np.float64], n_neighbors: int) -> NDArray[np.intp]:
    """Return the rows that each row votes for, of shape (n_rows, n_neighbors)."""
    # Rows have unit length, so the nearest have the largest cosine.
    neighbours = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(embeddings)
    return neighbours.kneighbors(return_distance=False)  # without X, no row is its own neighbour


def _elect(votes: NDArray[np.intp], discount: float) -> Iterator[int]:
    """Yield all rows, each time the one with the largest sum of weighted votes."""
    n_rows, n_each = votes.shape
    weights, remaining = np.ones(n_rows), np.ones(n_rows, dtype=bool)
    for _ in range(n_rows):
        counted = np.bincount(
            votes.ravel(), weights=np.repeat(weights * remaining, n_each), minlength=n_rows
        )
        elected = int(np.where(remaining, counted, -1).argmax())
        weights[(votes == elected).any(axis=1)] /= discount
        remaining[elected] = False
        yield elected
