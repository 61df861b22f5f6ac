"""The scores of rows, computed once for all questions that are calibrated on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.engine.interfaces import LabelScorer
from instructclf.engine.running.progress import Progress

Read = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""All scores of texts → those of one question."""


class RememberedScores:
    """Scores each text once, and gives each question its share.

    Parameters
    ----------
    scorer : LabelScorer
        Scores the answers of all questions.
    """

    def __init__(self, scorer: LabelScorer) -> None:
        self._scorer = scorer
        self._known: dict[str, NDArray[np.float64]] = {}
        self._demonstrations: NDArray[np.float64] | None = None

    def read_by(self, read: Read) -> Any:
        """Return what scores one question's labels alone, as they are read from all scores."""
        return _Part(self, read)

    def score(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        """Return the scores of all questions' answers, of shape (n_texts, n_labels)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._scorer.score(new, progress), strict=True))
        return np.array([self._known[text] for text in texts])

    def score_demonstrations(self, progress: Progress | None = None) -> NDArray[np.float64]:
        """Return the scores of each demonstration after a prompt of the others."""
        if self._demonstrations is None:
            self._demonstrations = self._scorer.score_demonstrations(progress)
        return self._demonstrations


class _Part:
    """A `LabelScorer` of one question, as far as calibrating asks for it."""

    def __init__(self, all_scores: RememberedScores, read: Read) -> None:
        self._all, self._read = all_scores, read

    def score(
        self, texts: Sequence[str], progress: Progress | None = None, *, relative: bool = False
    ) -> NDArray[np.float64]:
        del relative  # the scores of several questions always are
        return self._read(self._all.score(texts, progress))

    def score_demonstrations(
        self, progress: Progress | None = None, *, relative: bool = False
    ) -> NDArray[np.float64]:
        del relative
        return self._read(self._all.score_demonstrations(progress))
