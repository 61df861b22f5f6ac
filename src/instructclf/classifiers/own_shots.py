"""A sampler and labelled rows → the demonstrations of each text, chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instructclf.sampling import PerInputSampler


@dataclass(frozen=True, eq=False)
class OwnShots:
    """Which labelled rows stand solved in the prompt of each text.

    Parameters
    ----------
    sampler : PerInputSampler
        Fitted on the rows.
    solved : tuple of (str, str)
        All rows, pairs of a text and its label words.
    n_shots : int
        How many rows each text gets.
    """

    sampler: PerInputSampler
    solved: tuple[tuple[str, str], ...]
    n_shots: int

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
        return self.sampler.select_for(texts, self.n_shots, leave_out=leave_out)

    def demonstrations(
        self, texts: Sequence[str], *, leave_out: bool = False
    ) -> list[tuple[tuple[str, str], ...]]:
        """Return the rows for each text as solved examples, in the order of its prompt."""
        return [
            tuple(self.solved[row] for row in own) for own in self.rows(texts, leave_out=leave_out)
        ]
