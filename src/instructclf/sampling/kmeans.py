"""k-means: the rows closest to the centres of each label's clusters."""

from __future__ import annotations

from itertools import zip_longest
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.utils._param_validation import Interval

from instructclf.sampling.representative import RepresentativeSampler


class KMeansSampler(RepresentativeSampler):
    """Choose the rows closest to cluster centres, equally many of every label.

    The rows of each label are clustered by k-means. The first shots of a label are the medoids,
    the rows closest to the centres, starting with the largest cluster. The second closest rows
    follow, and so on. The number of clusters is independent of the number of shots, so that the
    shots for 8 are among those for 16. To get medoids only, set ``n_clusters`` to
    ``n_shots / n_classes``, the shots of each label.

    Parameters
    ----------
    n_clusters : int, default=8
        The maximum number of clusters of each label. With two labels and 16 shots, 8 clusters give
        medoids only.
    embedder : transformer, str, path or None, default=None
        Compares texts: a scikit-learn transformer, the name or folder of a sentence encoder (needs
        the ``sentences`` extra), or ``None`` for TF-IDF. Sparse rows are reduced to 128 columns.
    n_candidates : int or None, default=1000
        How many rows of each label are considered, drawn at random. More take more time; fewer let
        seeds differ more. ``None`` considers all.

    See Also
    --------
    FacilityLocationSampler : Covers the rows of each label without clustering.

    Examples
    --------
    >>> from instructclf.sampling import KMeansSampler
    >>> texts = ["good phone", "great phone", "good book", "bad phone", "bad book", "poor book"]
    >>> labels = ["positive"] * 3 + ["negative"] * 3
    >>> shots = KMeansSampler(n_clusters=2).select(texts, labels, 4, random_state=0)
    >>> sorted(labels[i] for i in shots)
    ['negative', 'negative', 'positive', 'positive']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RepresentativeSampler._parameter_constraints,
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, n_clusters: int = 8, *, embedder: Any = None, n_candidates: int | None = 1000
    ) -> None:
        super().__init__(embedder=embedder, n_candidates=n_candidates)
        self.n_clusters = n_clusters

    def _order(self, embeddings: NDArray[np.float64], rng: np.random.RandomState) -> list[int]:
        points = embeddings.round(6)  # so that noise does not make equal points differ
        n_clusters = min(self.n_clusters, len(np.unique(points, axis=0)))
        seed = int(rng.randint(np.iinfo(np.int32).max))
        clustering = KMeans(n_clusters, random_state=seed).fit(points)
        labels = np.asarray(clustering.labels_)
        distances = np.linalg.norm(points - clustering.cluster_centers_[labels], axis=1)
        by_distance = np.argsort(distances, kind="stable")
        clusters = [by_distance[labels[by_distance] == i].tolist() for i in range(n_clusters)]
        clusters.sort(key=len, reverse=True)
        return [row for rank in zip_longest(*clusters) for row in rank if row is not None]
