"""Nearest neighbours: for each text the most similar rows, the most similar one last.

The method of Liu et al., "What Makes Good In-Context Examples for GPT-3?" (2022), but balanced,
because the nearest rows often all have the same label.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from instructclf.inputs.texts import check_texts
from instructclf.sampling.base import RowSampler
from instructclf.sampling.embedding import TextEmbedding
from instructclf.sampling.representative import EMBEDDER, select_in_order
from instructclf.sampling.rows import LabelledRows, check_n_shots, different_rows

_N_AT_ONCE = 256
"""How many texts are compared with all rows at once: 33 MB for 16,000 rows."""


class KNNSampler(RowSampler):
    """Choose the most similar rows for each text, equally many of every label.

    ``fit`` stores the labelled rows, and ``select_for`` chooses among them for each text. The shots
    of a text come in rounds of one row of every label. The nearest rows come in the last round and
    the most similar row at the end, where it influences the model most. If the number of shots is
    not a multiple of the number of labels, the remainder goes to labels drawn at random for each
    text. The shots for 8 are among those for 16. The choice for a text depends neither on the other
    texts of the call nor on the order of the rows.

    ``select``, which knows no text, chooses the rows closest to the mean of their label.

    Every text gets a different prompt, so the model reads the demonstrations again for every text.

    Parameters
    ----------
    balanced : bool, default=True
        Whether every label has the same number of shots. ``False`` takes the nearest rows of any
        label, as is usual if there are more labels than shots.
    embedder : transformer, str, path or None, default=None
        Compares texts: a scikit-learn transformer, the name or folder of a sentence encoder (needs
        the ``sentences`` extra), or ``None`` for TF-IDF. Sparse rows are reduced to 128 columns.

    Attributes
    ----------
    n_rows_ : int
        The number of different rows to choose from.

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
        """Store the rows to choose from.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        random_state : int, RandomState instance or None, default=None
            Controls which labels get the remainder of the shots, and breaks ties between rows.

        Returns
        -------
        KNNSampler
            The fitted sampler.

        Raises
        ------
        InvalidTextsError
            If ``X`` is not a sequence of strings.
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
            Whether to leave out rows with the same text, as if labelled texts were new.

        Returns
        -------
        list of ndarray of shape (n_shots,)
            For each text, indices into the ``X`` of ``fit``, in the order of the prompt. They are
            fewer than ``n_shots`` only if leaving out leaves too few rows.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        InvalidTextsError
            If ``X`` is not a sequence of strings.
        InvalidShotsError
            If there are fewer different rows than shots, or fewer shots than labels.
        """
        check_is_fitted(self)
        remedy = ", or give KNNSampler(balanced=False)"
        check_n_shots(n_shots, len(self._groups), self.n_rows_, remedy=remedy)
        texts = check_texts(X) if len(X) else []
        chosen: list[NDArray[np.intp]] = []
        for start in range(0, len(texts), _N_AT_ONCE):
            batch = texts[start : start + _N_AT_ONCE]
            similarities = self._compare(batch, leave_out=leave_out)
            chosen += map(self._choose, batch, similarities, [n_shots] * len(batch))
        return chosen

    def _select(
        self, rows: LabelledRows, n_shots: int, rng: np.random.RandomState
    ) -> NDArray[np.intp]:
        return select_in_order(
            rows,
            n_shots,
            rng,
            order=lambda _, embeddings, __: _most_central_first(embeddings),
            embedder=self.embedder,
            n_candidates=None,
        )

    def _compare(self, texts: list[str], *, leave_out: bool) -> NDArray[np.float64]:
        """Return cosines of shape (n_texts, n_rows), minus infinity for rows left out."""
        # Rounded, because the last digits of an encoder depend on the other texts of the batch.
        cosines = (self._embedding.transform(texts) @ self._embeddings.T).round(6)
        if leave_out:
            same = np.array(texts, dtype=object)[:, None] == self._texts
            cosines[same] = -np.inf
        return cosines

    def _choose(self, text: str, similarity: NDArray[np.float64], n_shots: int) -> NDArray[np.intp]:
        """Return the shots for one text from its cosines to all rows."""
        ends = np.cumsum([len(group) for group in self._groups])[:-1]
        nearest = [
            _nearest_first(group, cosines, n_shots)
            for group, cosines in zip(self._groups, np.split(similarity, ends), strict=True)
        ]
        rng = np.random.default_rng([self._seed, zlib.crc32(text.encode(errors="surrogatepass"))])
        rounds = list(_rounds(nearest, rng.permutation(len(nearest)), n_shots))
        shots = [row for one in reversed(rounds) for row, _ in sorted(one, key=itemgetter(1))]
        return np.array(shots, dtype=np.intp)


_Row = tuple[int, float]
"""The index of a row, and its cosine to the text."""


def _nearest_first(
    group: NDArray[np.intp], similarity: NDArray[np.float64], n_rows: int
) -> list[_Row]:
    order = np.argsort(-similarity, kind="stable")[:n_rows]
    order = order[np.isfinite(similarity[order])]  # without the rows left out
    return list(zip(group[order].tolist(), similarity[order].tolist(), strict=True))


def _rounds(
    nearest: list[list[_Row]], labels: NDArray[np.intp], n_shots: int
) -> Iterator[list[_Row]]:
    """Yield the nearest row of every label, then the second nearest, up to ``n_shots`` rows."""
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
