"""A sampler and labelled rows → the shots of all texts, or what chooses those of each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from instructclf.engine.interfaces import Demonstrations
from instructclf.exceptions import InvalidShotsError
from instructclf.sampling import PerInputSampler, ShotSampler, get_sampler, select_shots


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


def choose_shots(
    sampler: ShotSampler,
    n_shots: int | None,
    solved: Demonstrations,
    strata: NDArray[np.intp],
    *,
    rng: np.random.RandomState,
    predict_proba: Callable[[Sequence[str]], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.intp], ShotsPerText | None]:
    """Return the rows that become shots, and what chooses among them for each text, if anything.

    ``solved`` are all rows, and ``strata`` says which of them the sampler shall balance.
    """
    texts = [text for text, _ in solved]
    if n_shots is None:
        return np.arange(len(texts), dtype=np.intp), None
    if n_shots == 0:
        return np.empty(0, dtype=np.intp), None
    seed = int(rng.randint(np.iinfo(np.int32).max))
    if isinstance(sampler, PerInputSampler):
        per_text = ShotsPerText(sampler, solved, strata, n_shots, seed)
        per_text.rows(texts[:1])  # too few rows or shots are an error in fit, not in predict
        return np.arange(len(texts), dtype=np.intp), per_text
    chosen = select_shots(
        sampler, texts, strata, n_shots, random_state=seed, predict_proba=predict_proba
    )
    return chosen, None


def check_prompts_differ(estimator: Any, *, draws_order: bool = False) -> None:
    """Raise if several seeds would all make the same prompt.

    Raises
    ------
    InvalidShotsError
        If there is nothing to draw.
    """
    n_seeds, n_shots, sampler = estimator.n_seeds, estimator.n_shots, estimator.sampler
    draws = bool(n_shots) and not isinstance(get_sampler(sampler), PerInputSampler)
    if n_seeds > 1 and not draws and not draws_order:
        order = "label_order='cyclic', " if hasattr(estimator, "label_order") else ""
        msg = (
            f"n_seeds={n_seeds} seeds would all make the same prompt, since n_shots={n_shots} with "
            f"sampler={sampler!r} leaves nothing to draw. Set n_shots to fewer than the rows, "
            f"{order}or n_seeds=1."
        )
        raise InvalidShotsError(msg)
