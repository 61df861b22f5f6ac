"""k-means: rows in the middle of the clusters that a label's rows form."""

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
    """Take the rows in the middle of clusters, as many of every label.

    The rows of each label are clustered by k-means. The first shots of a label are the medoids,
    the rows closest to the centres, that of the largest cluster first; after them come the second
    closest, and so on. The number of clusters does not follow the number of shots, because the
    clusters for 8 are not among those for 16 and the shots would not be either. Set
    ``n_clusters`` to the shots of each label, ``n_shots / n_classes``, for medoids only.

    Parameters
    ----------
    n_clusters : int, default=8
        Clusters of each label, at most. 8 are the medoids of 16 shots for two labels.
    embedder : transformer, str, path or None, default=None
        What makes texts comparable: a scikit-learn transformer of texts, the name or folder of a
        sentence encoder (takes the ``sentences`` extra), or ``None`` for TF-IDF. Sparse results
        are reduced to 128 columns by a truncated SVD.
    n_candidates : int or None, default=1000
        Different rows of each label, drawn at random, that are considered. More take more time;
        fewer let seeds differ more. ``None`` considers all.

    See Also
    --------
    FacilityLocationSampler : Covers the rows of each label without clusters.

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
        points = embeddings.round(6)  # below it lies noise, which would count as different points
        n_clusters = min(self.n_clusters, len(np.unique(points, axis=0)))
        seed = int(rng.randint(np.iinfo(np.int32).max))
        clustering = KMeans(n_clusters, random_state=seed).fit(points)
        labels = np.asarray(clustering.labels_)
        distances = np.linalg.norm(points - clustering.cluster_centers_[labels], axis=1)
        by_distance = np.argsort(distances, kind="stable")
        clusters = [by_distance[labels[by_distance] == i].tolist() for i in range(n_clusters)]
        clusters.sort(key=len, reverse=True)
        return [row for rank in zip_longest(*clusters) for row in rank if row is not None]
