"""What several questions share in a fit: the scores of the rows, and the shots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from instructclf.engine.interfaces import LabelScorer
from instructclf.exceptions import InvalidShotsError


class SharedEvidence:
    """What the calibrator of one question may look at; scores are computed once for all."""

    def __init__(self, scorer: LabelScorer, texts: list[str], shots: NDArray[np.intp]) -> None:
        self._scorer = scorer
        self.texts = texts
        self.shots = shots
        self._known: dict[tuple[str, ...], NDArray[np.float64]] = {}

    def of(self, part: slice, classes: NDArray[Any], codes: NDArray[np.intp]) -> Any:
        """Return the evidence of the question with these scores."""
        return _OneQuestion(self, part, classes, codes)

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the scores of all questions' answers, (n_texts, n_answers)."""
        key = tuple(texts)
        if key not in self._known:
            self._known[key] = self._scorer.score(texts)
        return self._known[key]

    @cached_property
    def shot_scores(self) -> NDArray[np.float64] | None:
        """The scores of each shot after a prompt of the others, if there are shots."""
        return self._scorer.score_demonstrations() if len(self.shots) else None


class _OneQuestion:
    """One question's share of the evidence. See `instructclf.calibration.Evidence`."""

    def __init__(
        self, shared: SharedEvidence, part: slice, classes: NDArray[Any], codes: NDArray[np.intp]
    ) -> None:
        self._shared, self._part = shared, part
        self.texts, self.shots = shared.texts, shared.shots
        self.classes, self.codes, self.n_classes = classes, codes, len(classes)

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return log_softmax(self._shared.score(texts)[:, self._part], axis=1)

    def score_shots(self) -> NDArray[np.float64] | None:
        scores = self._shared.shot_scores
        return None if scores is None else log_softmax(scores[:, self._part], axis=1)


def draw_shots(
    codes: NDArray[np.intp], n_shots: int | None, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Draw rows at random, each time one with the answers that have been shown least."""
    n_rows, n_questions = codes.shape
    wanted = n_rows if n_shots is None else n_shots
    if wanted > n_rows:
        msg = f"n_shots={wanted} is more than the {n_rows} rows. Give more rows, or fewer shots."
        raise InvalidShotsError(msg)
    waiting = rng.permutation(n_rows).tolist()
    shown = np.zeros((n_questions, codes.max() + 1))
    questions = np.arange(n_questions)
    chosen = []
    for _ in range(wanted):
        seen = shown[questions, codes[waiting]].sum(axis=1)
        row = waiting.pop(int(seen.argmin()))
        shown[questions, codes[row]] += 1
        chosen.append(row)
    return np.array(chosen, dtype=np.intp)
