"""The texts that a calibration is estimated from: held-out rows, or texts that say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from instructclf.exceptions import InvalidTextsError

CONTENT_FREE_TEXTS = ("N/A", "", "[MASK]")
"""The inputs without content of Zhao et al., "Calibrate Before Use", ICML 2021."""
N_DOMAIN_TEXTS = 20
"""How many texts of random words Fei et al. draw."""
N_ROWS_OF_A_CLASS = 64
"""Labelled rows of a class, at most."""


def held_out_rows(
    texts: Sequence[str],
    codes: NDArray[np.intp],
    shots: Iterable[int],
    rng: np.random.RandomState,
) -> NDArray[np.intp]:
    """Return rows unlike any shot, as many of each class: none if a class has too few."""
    shown = {texts[i] for i in shots}
    rest = np.array([i for i, text in enumerate(texts) if text not in shown], dtype=np.intp)
    groups = [rng.permutation(rest[codes[rest] == code]) for code in np.unique(codes)]
    n_each = min(map(len, groups), default=0)
    if n_each < 2:  # a spread within classes takes two rows
        return np.empty(0, dtype=np.intp)
    return np.concatenate([group[: min(n_each, N_ROWS_OF_A_CLASS)] for group in groups])


def draw_domain_texts(
    texts: Sequence[str], rng: np.random.RandomState, n_draws: int = N_DOMAIN_TEXTS
) -> list[str]:
    """Return texts of random words of a domain (Fei et al., 2023).

    Each has as many words as the given texts have on average, rounded, drawn with replacement
    among all words of all texts, so that frequent words come often. Words are what stands between
    white space. Unlike in the authors' code, they keep their case and get no full stop at the end.

    Parameters
    ----------
    texts : sequence of str
        Texts of the domain.
    rng : RandomState
        Decides which words are drawn.
    n_draws : int, default=20
        How many texts.

    Returns
    -------
    list of str
        The texts, which say nothing but sound of the domain.

    Raises
    ------
    InvalidTextsError
        If there are no words.
    """
    words = [word for text in texts for word in text.split()]
    if not words:
        msg = (
            "calibration='domain' draws words from the texts of fit. Got "
            f"{len(texts)} texts without a word: give other texts, or another calibration."
        )
        raise InvalidTextsError(msg)
    n_words = max(1, round(len(words) / len(texts)))
    drawn = rng.randint(len(words), size=(n_draws, n_words))
    return [" ".join(words[i] for i in row) for row in drawn]
