"""Rows to train on → the same, and copies of them that ask for another label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instructclf.prompts.attacks import REHEARSALS


def add_attacked_copies(
    texts: Sequence[str],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64] | None,
    label_words: Sequence[Sequence[str]],
    *,
    n_copies: int,
    rng: np.random.RandomState,
) -> tuple[list[str], NDArray[np.intp], NDArray[np.float64] | None]:
    """Append copies of rows in which something asks for another label than theirs.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    codes : ndarray of shape (n_texts,)
        The class of each, which its copies keep.
    weights : ndarray of shape (n_texts,) or None
        How much each counts, which its copies take over.
    label_words : sequence of sequence of str
        The answers of each class.
    n_copies : int
        How many copies of each row. 0 returns the rows alone, and draws nothing.
    rng : RandomState
        Draws the attack and the label of each copy.

    Returns
    -------
    texts : list of str
        Texts and copies.
    codes : ndarray of shape (n_texts * (1 + n_copies),)
        Their classes.
    weights : ndarray or None
        Their weights.
    """
    attacks = list(REHEARSALS.values())
    words = [answers[0] for answers in label_words]
    attacked = list(texts)
    for _ in range(n_copies):
        for text, code in zip(texts, codes.tolist(), strict=True):
            attack = attacks[rng.randint(len(attacks))]
            other = (code + 1 + int(rng.randint(len(words) - 1))) % len(words)
            attacked.append(attack.apply(text, words[other]))
    copied = None if weights is None else np.tile(weights, 1 + n_copies)
    return attacked, np.tile(codes, 1 + n_copies), copied
