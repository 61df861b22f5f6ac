"""A sampler and labelled rows → the demonstrations of each text, chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from instructclf.engine.interfaces import Demonstrations
from instructclf.sampling import PerInputSampler


@dataclass(frozen=True, eq=False)
class ShotsPerText:
    """Which labelled rows stand solved in the prompt of each text.

    Called with texts, it returns the demonstrations of each.

    Parameters
    ----------
    sampler : PerInputSampler
        Chooses the rows. It is cloned, and the clone is fitted.
    solved : tuple of (str, str)
        All rows, pairs of a text and its label words.
    codes : ndarray of shape (n_rows,)
        The position of each row's label.
    n_shots : int
        How many rows each text gets.
    seed : int
        Decides what the sampler leaves to chance.
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
        """Return the positions of rows for each text, in the order of its prompt, each (n_shots,).

        With ``leave_out``, rows with the very text that is asked for are left out.
        """
        return self._fitted.select_for(texts, self.n_shots, leave_out=leave_out)

    def __call__(self, texts: Sequence[str], *, leave_out: bool = False) -> list[Demonstrations]:
        """Return the rows for each text as solved examples, in the order of its prompt."""
        return [
            tuple(self.solved[row] for row in rows)
            for rows in self.rows(texts, leave_out=leave_out)
        ]

    @property
    def left_out(self) -> partial[list[Demonstrations]]:
        """The same choice, as if a row with the text that is asked for had not been given."""
        return partial(self, leave_out=True)
