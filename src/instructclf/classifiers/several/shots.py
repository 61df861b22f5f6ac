"""Rows with several answers each → shots that show every answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from instructclf.classifiers.shots import check_prompts_differ
from instructclf.exceptions import InvalidShotsError
from instructclf.sampling import BalancedSampler, ShotSampler, get_sampler
from instructclf.sampling.rows import check_n_shots


class AnswersSampler:
    """Draw rows at random, each time one with the answers that have been shown least.

    So the shots for 8 are the first 8 of those for 16 under the same seed. Equal rows count once,
    and the order of the rows does not affect which ones are drawn.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_questions)
        The position of each row's labels among those of the questions.
    """

    def __init__(self, codes: NDArray[np.intp]) -> None:
        self._codes = codes

    def select(
        self,
        X: Sequence[str],
        y: ArrayLike,  # noqa: ARG002  (the answers of each row are known)
        n_shots: int,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[np.intp]:
        """Choose the rows that become shots."""
        first: dict[Any, int] = {}
        for row, key in enumerate(zip(X, map(tuple, self._codes.tolist()), strict=True)):
            first.setdefault(key, row)
        check_n_shots(n_shots, 0, len(first))
        waiting = check_random_state(random_state).permutation(
            [first[key] for key in sorted(first)]
        )
        questions = np.arange(self._codes.shape[1])
        shown = np.zeros((len(questions), self._codes.max() + 1))
        chosen = []
        for _ in range(n_shots):
            least = int(shown[questions, self._codes[waiting]].sum(axis=1).argmin())
            shown[questions, self._codes[waiting[least]]] += 1
            chosen.append(waiting[least])
            waiting = np.delete(waiting, least)
        return np.array(chosen, dtype=np.intp)


def choose_sampler(estimator: Any, codes: NDArray[np.intp]) -> ShotSampler:
    """Return what chooses shots among rows with several answers each."""
    sampler = get_sampler(estimator.sampler)
    return AnswersSampler(codes) if isinstance(sampler, BalancedSampler) else sampler


def check_draws(estimator: Any) -> None:
    """Raise if shots cannot be drawn as the parameters ask.

    Raises
    ------
    InvalidShotsError
        If the sampler asks for the probabilities of one question, or seeds would be alike.
    """
    if getattr(get_sampler(estimator.sampler), "needs_probabilities", False):
        msg = (
            f"The 'sampler' parameter is {estimator.sampler!r}, which asks how sure the model is "
            "of one question, and there are several. Take 'balanced', 'facility_location' or 'knn'."
        )
        raise InvalidShotsError(msg)
    check_prompts_differ(estimator)
