"""Instruction tuning: the shots train a LoRA adapter, and the prompt stays short."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from instructclf.classifiers.base import PromptedClassifier
from instructclf.engine.adapters import Adapter, LoraSettings
from instructclf.engine.loading import BaseModel
from instructclf.engine.scoring import LabelScorer
from instructclf.engine.training import TrainingSettings, tune_adapter
from instructclf.engine.views import shared_view
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler


class InstructionTunedClassifier(PromptedClassifier):
    """Fine-tune a LoRA adapter of a language model to answer an instruction with the label."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PromptedClassifier._parameter_constraints,
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        "lora_rank": [Interval(Integral, 1, None, closed="left")],
        "lora_alpha": [Interval(Real, 0, None, closed="neither"), None],
        "lora_dropout": [Interval(Real, 0, 1, closed="left")],
        "target_modules": [str, list, tuple],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "train_batch_size": [Interval(Integral, 1, None, closed="left")],
        "warmup_ratio": [Interval(Real, 0, 1, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "target_loss": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        model: str | tuple[Any, Any] = "bundled",
        *,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = None,
        sampler: str | ShotSampler = "balanced",
        calibration: str | None = "auto",
        lora_rank: int = 16,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        target_modules: str | list[str] | tuple[str, ...] = "all-linear",
        learning_rate: float = 2e-4,
        max_epochs: int = 20,
        train_batch_size: int = 8,
        warmup_ratio: float = 0.1,
        tol: float = 1e-3,
        n_iter_no_change: int = 3,
        target_loss: float = 0.05,
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
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.target_modules = target_modules
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.train_batch_size = train_batch_size
        self.warmup_ratio = warmup_ratio
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.target_loss = target_loss
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the adapter on the shots."""
        return self._fit(X, y)

    def _fit_scorer(
        self,
        base: BaseModel,
        shots: list[str],
        codes: NDArray[np.intp],
        rng: np.random.RandomState,
    ) -> LabelScorer:
        first, second = (int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=2))
        adapter, record = tune_adapter(
            base,
            self._make_encoder(base),
            shots,
            codes,
            lora=self._lora_settings(),
            settings=self._training_settings(),
            seeds=(first, second),
            verbose=self.verbose,
        )
        self.loss_curve_ = record.loss_curve
        self.n_iter_ = len(record.loss_curve)
        self.stopped_by_ = record.stopped_by
        self.adapter_ = adapter.state()
        return self._make_scorer(base, adapter.model)

    def _rebuild_scorer(self, base: BaseModel) -> LabelScorer:
        adapter = Adapter(shared_view(base.model), self._lora_settings())
        adapter.load(self.adapter_)
        return self._make_scorer(base, adapter.model)

    def _leave_one_out_scores(
        self,
        scorer: LabelScorer,  # noqa: ARG002  (each score would take a training run of its own)
    ) -> None:
        return None

    def _lora_settings(self) -> LoraSettings:
        targets = self.target_modules
        return LoraSettings(
            rank=self.lora_rank,
            alpha=2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha,
            dropout=self.lora_dropout,
            target_modules=targets if isinstance(targets, str) else tuple(targets),
        )

    def _training_settings(self) -> TrainingSettings:
        budget = self.max_batch_tokens
        return TrainingSettings(
            learning_rate=self.learning_rate,
            max_epochs=self.max_epochs,
            batch_size=self.train_batch_size,
            warmup_ratio=self.warmup_ratio,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            target_loss=self.target_loss,
            max_batch_tokens=budget if isinstance(budget, int) else None,
        )
