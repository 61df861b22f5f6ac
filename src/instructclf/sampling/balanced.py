"""Balanced sampling: the same number of shots of every label.

Zhao et al., "Calibrate Before Use" (ICML 2021): the model favours the label that most examples of
the prompt have, and the label of the last example.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from instructclf.sampling.base import RowSampler
from instructclf.sampling.rows import LabelledRows, check_n_shots, take_in_rounds


class BalancedSampler(RowSampler):
    """Draw the same number of shots from every label.

    The shots come in rounds: each round takes one row of every label, the labels in random order.
    Every beginning of the sequence is therefore balanced, and the shots for 8 are the first 8 of
    those for 16 under the same seed. If the number of shots is not a multiple of the number of
    labels, the remainder goes to labels drawn at random. Equal rows count once, and the order of
    the rows does not affect which rows are chosen.

    Examples
    --------
    >>> from instructclf.sampling import BalancedSampler
    >>> texts, labels = ["a", "b", "c", "d", "e"], [0, 0, 0, 1, 1]
    >>> shots = BalancedSampler().select(texts, labels, 4, random_state=0)
    >>> sorted(labels[i] for i in shots)
    [0, 0, 1, 1]
    """

    def _select(
        self, rows: LabelledRows, n_shots: int, rng: np.random.RandomState
    ) -> NDArray[np.intp]:
        check_n_shots(n_shots, len(rows.groups), sum(rows.sizes))
        queues = [rng.permutation(group) for group in rows.groups]
        return take_in_rounds(queues, rows.sizes, n_shots, rng)
