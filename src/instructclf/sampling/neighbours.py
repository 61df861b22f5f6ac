"""Nearest neighbours: for each input the rows most similar to it, the most similar last.

Liu et al., "What Makes Good In-Context Examples for GPT-3?" (2022); balanced, since the nearest
rows alone often have one label.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from instructclf.inputs.texts import check_texts
from instructclf.sampling.embedding import TextEmbedding
from instructclf.sampling.representative import EMBEDDER, select_in_order
from instructclf.sampling.rows import (
    check_a_shot_of_every_label,
    check_enough_rows,
    different_rows,
)

_N_AT_ONCE = 256
"""Texts whose similarity to all rows is held at once: 33 MB for 16,000 rows."""


class KNNSampler(BaseEstimator):
    """Take for each input the rows most similar to it, as many of every label.

    ``fit`` keeps the labelled rows, ``select_for`` chooses among them for each text. The shots of a
    text come in rounds of one row of every label, the nearest rows in the last round and the most
    similar row at the very end, where a prompt weighs most. Where the number of shots is no
    multiple of the number of labels, the remainder goes to labels drawn at random for each text.
    The shots for 8 are among those for 16. What is chosen for a text does not depend on the other
    texts it is asked together with, nor on the order of the rows.

    A prompt of its own for each text costs: its demonstrations go through the model for every
    text, not once.

    Parameters
    ----------
    balanced : bool, default=True
        Whether each label has as many shots. ``False`` takes the nearest rows whatever their
        labels, as is usual where there are more labels than shots.
    embedder : transformer, str, path or None, default=None
        What makes texts comparable: a scikit-learn transformer of texts, the name or folder of a
        sentence encoder (takes the ``sentences`` extra), or ``None`` for TF-IDF. Sparse results
        are reduced to 128 columns by a truncated SVD.

    Attributes
    ----------
    n_rows_ : int
        How many different rows there are to choose among.

    Examples
    --------
    >>> from instructclf.sampling import KNNSampler
    >>> texts = ["good phone", "great phone", "good book", "bad phone", "bad book", "poor book"]
    >>> labels = ["positive"] * 3 + ["negative"] * 3
    >>> sampler = KNNSampler().fit(texts, labels, random_state=0)
    >>> [texts[i] for i in sampler.select_for(["a great phone"], 2)[0]]
    ['bad phone', 'great phone']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "balanced": ["boolean"],
        "embedder": EMBEDDER,
    }

    def __init__(self, *, balanced: bool = True, embedder: Any = None) -> None:
        self.balanced = balanced
        self.embedder = embedder

    def fit(
        self,
        X: Sequence[str],
        y: ArrayLike,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> Self:
        """Keep the rows to choose among.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        random_state : int, RandomState instance or None, default=None
            Decides which labels have the remainder of the shots, and which of equally similar rows
            comes first.

        Returns
        -------
        KNNSampler
            The fitted sampler.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        MissingExtraError
            If ``embedder`` names a sentence encoder and sentence-transformers is not installed.
        """
        self._validate_params()
        rows = different_rows(X, y)
        rng = check_random_state(random_state)
        self._seed = int(rng.randint(np.iinfo(np.int32).max))
        groups = rows.groups if self.balanced else [rows.indices]
        self._groups = [rng.permutation(group) for group in groups]
        indices = np.concatenate(self._groups)
        self._texts = np.array(rows.texts_at(indices), dtype=object)
        self._embedding = TextEmbedding(self.embedder, self._seed)
        self._embeddings = self._embedding.fit_transform(list(self._texts))
        self.n_rows_ = len(indices)
        return self

    def select_for(
        self, X: Sequence[str], n_shots: int, *, leave_out: bool = False
    ) -> list[NDArray[np.intp]]:
        """Choose the rows that become shots for each text.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts to classify.
        n_shots : int
            How many rows to choose for each.
        leave_out : bool, default=False
            Whether a row with the very text that is asked for is left out, to treat labelled
            texts as if they were not among the rows.

        Returns
        -------
        list of ndarray of shape (n_shots,)
            For each text, indices into the ``X`` of ``fit``, in the order in which the shots
            belong into its prompt. Fewer than ``n_shots`` only where leaving out leaves fewer.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidShotsError
            If there are fewer different rows than shots, or fewer shots than labels.
        """
        check_is_fitted(self)
        remedy = ", or give KNNSampler(balanced=False)"
        check_a_shot_of_every_label(n_shots, len(self._groups), remedy=remedy)
        check_enough_rows(n_shots, self.n_rows_)
        texts = check_texts(X) if len(X) else []
        chosen: list[NDArray[np.intp]] = []
        for start in range(0, len(texts), _N_AT_ONCE):
            batch = texts[start : start + _N_AT_ONCE]
            similarities = self._compare(batch, leave_out=leave_out)
            chosen += map(self._choose, batch, similarities, [n_shots] * len(batch))
        return chosen

    def select(
        self,
        X: Sequence[str],
        y: ArrayLike,
        n_shots: int,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[np.intp]:
        """Choose rows where no input is known: those nearest to the middle of their label.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        n_shots : int
            How many rows to choose, as many of every label.
        random_state : int, RandomState instance or None, default=None
            Decides the order of labels in a round, and which of equally similar rows comes first.

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
            order=lambda _, embeddings, __: _most_central_first(embeddings),
            embedder=self.embedder,
            n_candidates=None,
            random_state=random_state,
        )

    def _compare(self, texts: list[str], *, leave_out: bool) -> NDArray[np.float64]:
        """Return cosines of shape (n_texts, n_rows), minus infinity for rows left out."""
        # Rounded: an encoder's last digits depend on what else is in the batch.
        cosines = (self._embedding.transform(texts) @ self._embeddings.T).round(6)
        if leave_out:
            same = np.array(texts, dtype=object)[:, None] == self._texts
            cosines[same] = -np.inf
        return cosines

    def _choose(self, text: str, similarity: NDArray[np.float64], n_shots: int) -> NDArray[np.intp]:
        """Return the shots for one text from its cosines to all rows."""
        ends = np.cumsum([len(group) for group in self._groups])[:-1]
        nearest = [
            _nearest_first(group, own, n_shots)
            for group, own in zip(self._groups, np.split(similarity, ends), strict=True)
        ]
        rng = np.random.default_rng([self._seed, zlib.crc32(text.encode(errors="surrogatepass"))])
        rounds = list(_rounds(nearest, rng.permutation(len(nearest)), n_shots))
        shots = [row for one in reversed(rounds) for row, _ in sorted(one, key=lambda own: own[1])]
        return np.array(shots, dtype=np.intp)


_Row = tuple[int, float]
"""The index of a row, and its cosine to the text asked for."""


def _nearest_first(
    group: NDArray[np.intp], similarity: NDArray[np.float64], n_rows: int
) -> list[_Row]:
    order = np.argsort(-similarity, kind="stable")[:n_rows]
    order = order[np.isfinite(similarity[order])]  # those left out
    return list(zip(group[order].tolist(), similarity[order].tolist(), strict=True))


def _rounds(
    nearest: list[list[_Row]], labels: NDArray[np.intp], n_shots: int
) -> Iterator[list[_Row]]:
    """Yield the nearest row of every label, then the second nearest, until there are enough."""
    n_taken = 0
    for position in range(max(map(len, nearest))):
        one = [nearest[label][position] for label in labels if position < len(nearest[label])]
        yield one[: n_shots - n_taken]
        n_taken += len(one)
        if n_taken >= n_shots:
            return


def _most_central_first(embeddings: NDArray[np.float64]) -> list[int]:
    similarity = (embeddings @ embeddings.mean(axis=0)).round(6)
    return np.argsort(-similarity, kind="stable").tolist()
