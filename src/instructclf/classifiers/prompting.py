"""k-shot prompting: the shots stand solved in the prompt, and nothing is trained."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from instructclf.classifiers.base import PromptedClassifier
from instructclf.engine.loading import BaseModel
from instructclf.engine.scoring import LabelScorer
from instructclf.engine.views import shared_view
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler


class PromptClassifier(PromptedClassifier):
    """Classify texts by what a language model finds the likeliest answer to a prompt.

    ``fit`` chooses shots among the labelled rows and writes them, solved, into the prompt. Nothing
    is trained. The prompt is computed once and reused, so that each text costs its own tokens only.
    """

    def __init__(
        self,
        model: str | tuple[Any, Any] = "bundled",
        *,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = 16,
        sampler: str | ShotSampler = "balanced",
        calibration: str | None = "auto",
        max_length: int | None = None,
        max_batch_tokens: int | str | None = "auto",
        device: str | None = None,
        dtype: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.model = model
        self.label_definitions = label_definitions
        self.verbalizer = verbalizer
        self.instruction = instruction
        self.template = template
        self.n_shots = n_shots
        self.sampler = sampler
        self.calibration = calibration
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the shots and write the prompt."""
        return self._fit(X, y)

    def _fit_scorer(
        self,
        base: BaseModel,
        shots: list[str],
        codes: NDArray[np.intp],
        rng: np.random.RandomState,  # noqa: ARG002  (nothing here is random)
    ) -> LabelScorer:
        self._add_demonstrations(base, shots, codes)
        return self._rebuild_scorer(base)

    def _rebuild_scorer(self, base: BaseModel) -> LabelScorer:
        return self._make_scorer(base, shared_view(base.model))

    def _leave_one_out_scores(self, scorer: LabelScorer) -> NDArray[np.float64] | None:
        return scorer.score_demonstrations() if len(self.shots_) else None
