"""Texts → rows of unit length, whose scalar products measure how similar the texts are.

The default compares words (TF-IDF, then a truncated SVD), and needs no further model. Mean-pooled
hidden states of the language model are not offered: they separate texts less well than words do.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils import check_array
from sklearn.utils.extmath import randomized_svd
from sklearn.utils.validation import check_consistent_length

from instructclf.exceptions import MissingExtraError

N_COMPONENTS = 128
"""The width that sparse matrices are reduced to. Latent semantic indexing takes about 100."""

_WORD = re.compile(r"\w+|[^\w\s]")


class TextEmbedding:
    """Texts as rows of unit length.

    Parameters
    ----------
    embedder : transformer, str, path or None
        A scikit-learn transformer of texts, the name or folder of a sentence encoder, or ``None``
        for TF-IDF. Sparse rows are reduced to 128 columns by a truncated SVD.
    seed : int
        Seeds the random projections of the SVD.
    """

    def __init__(self, embedder: Any, seed: int) -> None:
        self._embedder = _resolve(embedder)
        self._seed = seed
        self._columns: NDArray[np.intp] | None = None
        self._components: NDArray[np.float64] | None = None

    def fit_transform(self, texts: list[str]) -> NDArray[np.float64]:
        """Fit the embedder and embed the texts; shape (n_texts, n_columns)."""
        if hasattr(self._embedder, "fit_transform"):
            raw = self._embedder.fit_transform(texts)
        else:
            raw = self._embedder.fit(texts).transform(texts)
        raw = _check_rows(raw, texts)
        if issparse(raw):
            # Most of the million columns of a hashing vectorizer are empty.
            self._columns = np.flatnonzero(abs(raw).sum(axis=0))
            self._components = self._find_components(raw[:, self._columns])
        return self._reduce(raw)

    def transform(self, texts: list[str]) -> NDArray[np.float64]:
        """Embed other texts; shape (n_texts, n_columns)."""
        return self._reduce(_check_rows(self._embedder.transform(texts), texts))

    def _find_components(self, used: Any) -> NDArray[np.float64]:
        """Return the main directions, of shape (n_components, n_columns)."""
        if used.shape[1] == 0:
            return np.zeros((1, 0))
        n_components = min(N_COMPONENTS, *used.shape)
        return randomized_svd(used, n_components, random_state=self._seed)[2]

    def _reduce(self, raw: Any) -> NDArray[np.float64]:
        dense = raw
        if self._components is not None:
            dense = raw[:, self._columns] @ self._components.T
        lengths = np.linalg.norm(dense, axis=1, keepdims=True)
        return dense / np.where(lengths > 0, lengths, 1)  # a row of zeros is similar to none


def _check_rows(raw: Any, texts: list[str]) -> Any:
    rows = check_array(raw, accept_sparse=True)
    check_consistent_length(rows, texts)
    return rows


def _resolve(embedder: Any) -> Any:
    if embedder is None:
        analyzer: Any = _words  # scikit-learn's signature says str
        return TfidfVectorizer(analyzer=analyzer, sublinear_tf=True)
    if isinstance(embedder, str | PathLike):
        return _SentenceEncoder(fspath(embedder))
    return clone(embedder)


def _words(text: str) -> list[str]:
    """Return words and punctuation in lower case; a text without any counts as one empty word."""
    return _WORD.findall(text.lower()) or [""]


class _SentenceEncoder:
    """A model of the sentence-transformers package, by hub id or folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def transform(self, texts: list[str]) -> NDArray[np.float64]:
        encoder = _load_encoder(self._name)
        return np.asarray(encoder.encode(texts, show_progress_bar=False), dtype=np.float64)

    fit_transform = transform  # it learns nothing


@lru_cache(maxsize=1)  # the folds of a search use one encoder
def _load_encoder(name: str) -> Any:
    try:
        package = import_module("sentence_transformers")
    except ImportError as error:
        msg = (
            f"embedder={name!r} needs sentence-transformers. Install it with "
            'pip install "instructclf[sentences]", or leave embedder at None for TF-IDF.'
        )
        raise MissingExtraError(msg) from error
    return package.SentenceTransformer(name)
