"""What a fitted prompt says about labelled texts → the calibration of the scores it will give."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.classifiers.calibration import (
    BatchCalibration,
    Calibration,
    fit_calibration,
    fit_prior,
    no_calibration,
)
from instructclf.classifiers.calibration_texts import (
    CONTENT_FREE_TEXTS,
    draw_domain_texts,
    held_out_rows,
)
from instructclf.engine.scoring.label_scoring import LabelScorer


class ScoreCalibration(metaclass=ABCMeta):
    """Base of classifiers that calibrate, last of all in ``fit``, what their scorer says."""

    calibration: str | None
    classes_: NDArray[Any]
    _scorer: LabelScorer

    @abstractmethod
    def _leave_one_out_scores(self, scorer: LabelScorer) -> NDArray[np.float64] | None:
        """Score each shot as if it had not been one, or return ``None`` where that is too dear."""

    def _calibrate(
        self,
        texts: list[str],
        codes: NDArray[np.intp],
        shots: NDArray[np.intp],
        rng: np.random.RandomState,
    ) -> Calibration | BatchCalibration:
        match self.calibration:
            case "contextual":
                return fit_prior(self._scorer.score(CONTENT_FREE_TEXTS))
            case "domain":
                return fit_prior(self._scorer.score(draw_domain_texts(texts, rng)))
            case "batch":
                return BatchCalibration()
            case "auto":
                return self._calibrate_by_rows(texts, codes, shots, rng)
            case _:
                return no_calibration(len(self.classes_))

    def _calibrate_by_rows(
        self,
        texts: list[str],
        codes: NDArray[np.intp],
        shots: NDArray[np.intp],
        rng: np.random.RandomState,
    ) -> Calibration:
        rows = held_out_rows(texts, codes, shots, rng)
        if len(rows):
            scores = self._scorer.score([texts[i] for i in rows])
            return fit_calibration(scores, codes[rows])
        scores = self._leave_one_out_scores(self._scorer)
        if scores is None:
            return no_calibration(len(self.classes_))
        return fit_calibration(scores, codes[shots])
