"""How often a review and the one most similar to it share product and label.

    python benchmarks/similarity.py

Similarity is computed as the samplers do, over all reviews that ship: by TF-IDF, and by a sentence
encoder if it is installed (``pip install -c constraints.txt -r benchmarks/requirements.txt -e .``).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from peers.few_shot import ENCODERS, encoder_folder
from tables import Table, markdown

from instructclf.datasets import load_reviews
from instructclf.sampling.embedding import TextEmbedding


def main() -> None:
    """Print the shares of the most similar reviews, and those of any other review."""
    parts = [load_reviews("train"), load_reviews("test")]
    texts = [text for part in parts for text in part.texts]
    labels = np.array([label for part in parts for label in part.labels])
    products = np.array([product for part in parts for product in part.products])
    rows = [("any other review", *map(_percent, (_by_chance(products), _by_chance(labels))))]
    for name, embedder in _embedders().items():
        nearest = _nearest(texts, embedder)
        shares = (np.mean(values[nearest] == values) for values in (products, labels))
        rows.append((name, *map(_percent, shares)))
    header = ("the most similar by", "same product", "same label")
    print(markdown(Table("Nearest reviews", header, rows)))


def _embedders() -> dict[str, Any]:
    found: dict[str, Any] = {"TF-IDF": None}
    for name, package in ENCODERS.items():
        if find_spec(package):
            found[name] = str(encoder_folder(name))
    return found


def _nearest(texts: list[str], embedder: Any) -> Any:
    vectors = TextEmbedding(embedder, seed=0).fit_transform(texts)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity.argmax(axis=1)


def _by_chance(values: Any) -> float:
    """Return how often another row drawn at random has the same value."""
    counts = np.unique(values, return_counts=True)[1]
    return float(np.sum(counts * (counts - 1)) / (len(values) * (len(values) - 1)))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


if __name__ == "__main__":
    main()
