"""Facility location: every row of a label has a similar row among the shots."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from instructclf.sampling.representative import RepresentativeSampler

_UNCOVERED = -2.0
"""Below any cosine, so that the first row gains something for every row."""


class FacilityLocationSampler(RepresentativeSampler):
    """Choose rows that together are close to all rows, equally many of every label.

    The next shot of a label is the row that most raises the sum, over the label's rows, of the
    cosine to the most similar shot. This greedy order is within 1 - 1/e of the best choice of the
    same size (Nemhauser, Wolsey and Fisher 1978).

    Only ``n_candidates`` makes the choice random: if a label has fewer rows than that, all seeds
    choose the same rows, with the labels in a different order.

    Parameters
    ----------
    embedder : transformer, str, path or None, default=None
        Compares texts: a scikit-learn transformer, the name or folder of a sentence encoder (needs
        the ``sentences`` extra), or ``None`` for TF-IDF. Sparse rows are reduced to 128 columns.
    n_candidates : int or None, default=1000
        How many rows of each label are considered, drawn at random. More take more time; fewer let
        seeds differ more. ``None`` considers all.

    See Also
    --------
    UncertaintySampler : Covers mainly the rows about which the model is uncertain.

    Examples
    --------
    >>> from instructclf.sampling import FacilityLocationSampler
    >>> texts = ["good phone", "great phone", "good book", "bad phone", "bad book", "poor book"]
    >>> labels = ["positive"] * 3 + ["negative"] * 3
    >>> shots = FacilityLocationSampler().select(texts, labels, 4, random_state=0)
    >>> sorted(labels[i] for i in shots)
    ['negative', 'negative', 'positive', 'positive']
    """

    def _order(
        self,
        embeddings: NDArray[np.float64],
        rng: np.random.RandomState,  # noqa: ARG002  (not random)
    ) -> Iterator[int]:
        return cover_greedily(embeddings, np.ones(len(embeddings)))


def cover_greedily(
    embeddings: NDArray[np.float64],
    weights: NDArray[np.float64],
    others: Iterable[NDArray[np.float64]] = (),
) -> Iterator[int]:
    """Yield all rows, each time the one that most raises the weighted coverage.

    The coverage of a row is its cosine to the most similar row yielded, or row of ``others``. Gains
    only fall as more is covered, so an old gain bounds the new one, and only rows whose bound
    reaches the best gain are evaluated again (Minoux 1978). This is exact, and needs no matrix of
    similarities.
    """
    covered = np.full(len(embeddings), _UNCOVERED)
    for other in others:
        np.maximum(covered, embeddings @ other, out=covered)
    # While nothing is covered, the gain is linear in the row: the sum of all cosines. With others,
    # it is a bound.
    gains = embeddings @ (weights @ embeddings) - _UNCOVERED * weights.sum()
    bounds = [(-gain, row) for row, gain in enumerate((gains * (1 + 1e-9)).tolist())]
    heapq.heapify(bounds)
    while bounds:
        _, row = heapq.heappop(bounds)
        similarity = embeddings @ embeddings[row]
        gain = float((weights * np.maximum(similarity - covered, 0)).sum())
        if bounds and (-gain, row) > bounds[0]:
            heapq.heappush(bounds, (-gain, row))
            continue
        np.maximum(covered, similarity, out=covered)
        yield row
