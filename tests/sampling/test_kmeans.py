"""Medoids: the central row of every cluster comes before a second row of any."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.preprocessing import FunctionTransformer

from instructclf.sampling import KMeansSampler

ANGLES = {
    # Directions in the plane: label x has three clusters of 5, 3 and 2.
    "x": [0, 1, 2, 3, 4, 120, 121, 122, 240, 242],
    "y": [0, 1, 2, 120, 121],
}
TEXTS = [f"{angle} {label}" for label, angles in ANGLES.items() for angle in angles]
LABELS = [text[-1] for text in TEXTS]


def directions(texts):
    radians = np.radians([float(text.split()[0]) for text in texts])
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def select(n_shots, n_clusters=3, random_state=0):
    sampler = KMeansSampler(n_clusters, embedder=FunctionTransformer(directions))
    shots = sampler.select(TEXTS, LABELS, n_shots, random_state=random_state)
    return {
        label: [float(TEXTS[i].split()[0]) for i in shots if LABELS[i] == label] for label in "xy"
    }


def test_the_first_shots_are_medoids_starting_with_the_largest_cluster():
    assert select(6)["x"][:2] == [2, 121]
    assert select(6)["x"][2] in {240, 242}


def test_the_second_closest_rows_follow_the_medoids():
    x = select(15)["x"]
    assert {x[3], x[4], x[5]} <= {1, 3, 120, 122, 240, 242}
    assert len({angle // 100 for angle in x[3:6]}) == 3
    assert x[-1] in {0, 4}  # the edge of the largest cluster


@pytest.mark.filterwarnings("error")
def test_there_are_no_more_clusters_than_different_rows():
    assert sorted(select(15, n_clusters=100)["y"]) == ANGLES["y"]


def test_medoids_are_the_rows_closest_to_the_centres():
    embeddings = directions([text for text in TEXTS if text[-1] == "x"])
    rng = np.random.RandomState(3)
    sampler = KMeansSampler(4)
    order = sampler._order(embeddings, rng)
    seed = np.random.RandomState(3).randint(np.iinfo(np.int32).max)
    fitted = KMeans(4, random_state=seed).fit(embeddings.round(6))
    medoids = set()
    for cluster in range(4):
        members = [i for i in range(10) if fitted.labels_[i] == cluster]
        centre = fitted.cluster_centers_[cluster]
        closest = min(np.linalg.norm(embeddings[i].round(6) - centre) for i in members)
        medoids.add(
            min(i for i in members if np.linalg.norm(embeddings[i].round(6) - centre) == closest)
        )
    assert set(order[:4]) == medoids
    assert sorted(order) == list(range(10))
