"""A sampler and labelled rows → the demonstrations of each text, chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from instructclf.sampling import PerInputSampler


@dataclass(frozen=True, eq=False)
class OwnShots:
    """Which labelled rows stand solved in the prompt of each text.

    Parameters
    ----------
    sampler : PerInputSampler
        What chooses. It is cloned, and the clone is fitted on the rows.
    solved : tuple of (str, str)
        All rows, pairs of a text and its label words.
    codes : ndarray of shape (n_rows,)
        The position of each row's label.
    n_shots : int
        How many rows each text gets.
    seed : int
        Decides what is left to chance.
    """

    sampler: PerInputSampler
    solved: tuple[tuple[str, str], ...]
    codes: NDArray[np.intp]
    n_shots: int
    seed: int

    @cached_property
    def _fitted(self) -> PerInputSampler:
        fitted: Any = clone(self.sampler, safe=False)  # the one given belongs to the user
        return fitted.fit([text for text, _ in self.solved], self.codes, random_state=self.seed)

    def rows(self, texts: Sequence[str], *, leave_out: bool = False) -> list[NDArray[np.intp]]:
        """Return the rows for each text, in the order of its prompt.

        Parameters
        ----------
        texts : sequence of str
            The texts.
        leave_out : bool, default=False
            Whether rows with the very text that is asked for are left out.

        Returns
        -------
        list of ndarray of shape (n_shots,)
            Positions of rows.
        """
        return self._fitted.select_for(texts, self.n_shots, leave_out=leave_out)

    def demonstrations(
        self, texts: Sequence[str], *, leave_out: bool = False
    ) -> list[tuple[tuple[str, str], ...]]:
        """Return the rows for each text as solved examples, in the order of its prompt."""
        return [
            tuple(self.solved[row] for row in own) for own in self.rows(texts, leave_out=leave_out)
        ]
