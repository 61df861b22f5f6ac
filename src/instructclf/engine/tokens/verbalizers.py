"""Classes ↔ the words that the model answers with for them: one answer or several a class.

Sources of the sum over answers: Schick & Schütze, "It's Not Just Size That Matters" (NAACL 2021),
who let several words stand for one class, and Holtzman et al., "Surface Form Competition" (EMNLP
2021), on why words of the same meaning take probability from each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class Verbalizer:
    """The words of each class.

    Parameters
    ----------
    classes : sequence of (str or sequence of str)
        The words of each class: one answer, or several, the preferred one first.
    groups : tuple of int, default=()
        How many classes, in their order, belong to each of several questions. Empty for one.
    """

    def __init__(
        self, classes: Sequence[str | Sequence[str]], groups: tuple[int, ...] = ()
    ) -> None:
        self.groups = groups
        self.classes: tuple[tuple[str, ...], ...] = tuple(
            (words,) if isinstance(words, str) else tuple(words) for words in classes
        )

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """All answers, class after class."""
        return tuple(answer for answers in self.classes for answer in answers)

    @property
    def preferred(self) -> tuple[str, ...]:
        """The answer of each class that the instruction names and demonstrations give."""
        return tuple(answers[0] for answers in self.classes)

    @cached_property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """The positions in `answers` of each class's answers."""
        starts = np.cumsum([0, *map(len, self.classes)]).tolist()
        return tuple(
            tuple(range(start, start + len(answers)))
            for start, answers in zip(starts, self.classes, strict=False)
        )

    @cached_property
    def answer_groups(self) -> tuple[int, ...]:
        """How many answers belong to each question."""
        ends = np.cumsum(self.groups).tolist()
        starts = [0, *ends]
        return tuple(
            sum(map(len, self.classes[start:end])) for start, end in zip(starts, ends, strict=False)
        )

    def sum_answers(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each class's log of the sum over its answers, of shape (n_texts, n_classes).

        With several questions, the classes of each are normalised: their exponentials sum to 1.
        """
        if len(self.answers) != len(self.classes):
            starts = [positions[0] for positions in self.positions]
            scores = np.logaddexp.reduceat(scores, starts, axis=1)
        if not self.groups:
            return scores
        starts = np.cumsum([0, *self.groups[:-1]])
        totals = np.logaddexp.reduceat(scores, starts, axis=1)
        return scores - totals.repeat(self.groups, axis=1)
