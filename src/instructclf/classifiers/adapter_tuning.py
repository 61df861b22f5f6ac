"""Shots → an adapter: what a fit by tuning does with the parameters that say how."""

from __future__ import annotations

import inspect
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions

from instructclf.classifiers.adapted import AdaptedClassifier
from instructclf.classifiers.augmenting import add_attacked_copies
from instructclf.classifiers.weights import rows_that_count, weigh_rows
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.scoring.label_scoring import LabelScorer
from instructclf.engine.tuning.adapters import check_peft_config
from instructclf.engine.tuning.examples import Loss
from instructclf.engine.tuning.merging import average_adapters
from instructclf.engine.tuning.runs import TrainingSettings
from instructclf.engine.tuning.training import tune_adapter
from instructclf.exceptions import InvalidLabelsError

_SAID_BY_PEFT_CONFIG = (
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "n_tuned_layers",
)


class AdapterTuning(AdaptedClassifier):
    """Base of classifiers that train their adapter in ``fit``.

    It is responsible for

    - checking the parameters that depend on each other;
    - training an adapter, from the one of the fit before or from a new one;
    - making one adapter of those of several seeds.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **AdaptedClassifier._parameter_constraints,
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        "seed_average": [StrOptions({"log_proba", "adapter"})],
        "lora_rank": [Interval(Integral, 1, None, closed="left")],
        "lora_alpha": [Interval(Real, 0, None, closed="neither"), None],
        "lora_dropout": [Interval(Real, 0, 1, closed="left")],
        "target_modules": [str, list, tuple],
        "n_tuned_layers": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "train_batch_size": [Interval(Integral, 1, None, closed="left")],
        "warmup_ratio": [Interval(Real, 0, 1, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "target_loss": [Interval(Real, 0, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
        "warm_start": ["boolean"],
        "checkpoint_dir": [str, PathLike, None],
        "peft_config": "no_validation",  # takes an import of peft: see `_validate_params`
        "loss": [StrOptions({"lm", "label", "lm+label"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "adversarial_augment": [Interval(Integral, 0, None, closed="left")],
    }

    loss: Loss
    class_weight: dict[Any, float] | str | None
    learning_rate: float
    max_epochs: int
    train_batch_size: int
    warmup_ratio: float
    tol: float
    n_iter_no_change: int
    target_loss: float
    gradient_checkpointing: bool
    warm_start: bool
    checkpoint_dir: str | PathLike[str] | None
    adversarial_augment: int

    def _validate_params(self) -> None:
        super()._validate_params()
        self._check_checkpoints()
        if self.peft_config is None:
            return
        try:
            check_peft_config(self.peft_config)
        except ValueError as error:
            msg = f"The 'peft_config' parameter of {type(self).__name__} must be {error} instead."
            raise InvalidParameterError(msg) from None
        for name in _SAID_BY_PEFT_CONFIG:
            value, default = getattr(self, name), self._default_of(name)
            if value != default:
                msg = (
                    f"{name}={value!r} means nothing together with 'peft_config', which says all "
                    f"about the adapter. Say it there, or leave {name} at {default!r}."
                )
                raise InvalidParameterError(msg)

    def _check_checkpoints(self) -> None:
        """Raise if a fit that is cut off could not be recognised, or has no place to be kept."""
        if self.checkpoint_dir is None:
            return
        if self.random_state is None:
            msg = (
                f"checkpoint_dir={self.checkpoint_dir!r} goes on with a fit that draws the same "
                "shots and initial weights again, and random_state=None draws others each time. "
                "Set random_state to an int."
            )
            raise InvalidParameterError(msg)
        folder = Path(self.checkpoint_dir)
        if folder.exists() and not folder.is_dir():
            msg = (
                f"The 'checkpoint_dir' parameter of {type(self).__name__} must be a folder, which "
                f"is made where there is none. Got {str(folder)!r}, which is a file, instead."
            )
            raise InvalidParameterError(msg)

    @classmethod
    def _default_of(cls, name: str) -> Any:
        return inspect.signature(cls).parameters[name].default

    def _check_seeds(self) -> None:
        if self.warm_start:
            msg = (
                f"warm_start=True goes on from one adapter, and n_seeds={self.n_seeds} makes "
                "several. Set n_seeds=1 or warm_start=False."
            )
            raise ValueError(msg)
        if self.seed_average == "adapter" and self.peft_config is not None:
            msg = (
                "seed_average='adapter' takes plain LoRA, whose updates have an exact mean, and "
                "'peft_config' may be anything. Set seed_average='log_proba'."
            )
            raise ValueError(msg)
        if self.seed_average == "adapter" and self.label_order == "random":
            msg = (
                "seed_average='adapter' makes one classifier, with one prompt, of all seeds, and "
                "label_order='random' gives each a prompt of its own. Set label_order='sorted' or "
                "seed_average='log_proba'."
            )
            raise ValueError(msg)

    def _fit_scorer(
        self,
        base: BaseModel,
        shots: list[str],
        codes: NDArray[np.intp],
        rng: np.random.RandomState,
        weights: NDArray[np.float64] | None,
    ) -> LabelScorer:
        start = self._earlier_adapter()
        first, second = (int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=2))
        shots, codes, weights = add_attacked_copies(
            shots, codes, weights, self.label_words_, n_copies=self.adversarial_augment, rng=rng
        )
        adapter, record = tune_adapter(
            base,
            self._make_encoder(base),
            shots,
            codes,
            lora=self._adapter_settings(),
            settings=self._training_settings(),
            seeds=(first, second),
            weights=weigh_rows(self.class_weight, self.classes_, codes, weights),
            start=start,
            checkpoints=None if self.checkpoint_dir is None else Path(self.checkpoint_dir),
            verbose=self.verbose,
        )
        self.loss_curve_ = record.loss_curve
        self.n_iter_ = len(record.loss_curve)
        self.stopped_by_ = record.stopped_by
        self.adapter_ = adapter.state()
        self._fitted_as = self._adapter_settings()
        self._adapter_classes = self.classes_
        return self._make_scorer(base, adapter.model)

    def _fit_members(self, X: Any, y: Any, sample_weight: Any) -> Self:
        super()._fit_members(X, y, sample_weight)
        if self.seed_average == "adapter":
            self._average_adapters(X, y, sample_weight)
        return self

    def _average_adapters(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Make one classifier of the members: the mean of their updates, calibrated anew."""
        texts, codes = self._check_rows(X, y)
        rows, _ = rows_that_count(sample_weight, texts, codes, self.classes_)
        shots = np.searchsorted(rows, self.shots_)
        self.prompt_ = self.estimators_[0].prompt_
        self.adapter_ = average_adapters([member.adapter_ for member in self.estimators_])
        self._fitted_as = self._adapter_settings(self.n_seeds)
        self._adapter_classes = self.classes_
        self._scorer = self._rebuild_scorer(self._get_base())
        rng = self._random_generator()
        self.calibration_ = self._calibrate([texts[i] for i in rows], codes[rows], shots, rng)

    def _leave_one_out_scores(
        self,
        scorer: LabelScorer,  # noqa: ARG002  (each score would take a training run of its own)
    ) -> None:
        return None

    def _earlier_adapter(self) -> dict[str, Any] | None:
        """Return the adapter to begin with, if any. A fit that failed has left it as it was."""
        if not self.warm_start or not hasattr(self, "adapter_"):
            return None
        earlier, now = self._adapter_classes.tolist(), self.classes_.tolist()
        if earlier != now:
            msg = (
                f"warm_start=True goes on from a fit with the classes {earlier!r}, and now they "
                f"are {now!r}. Give labels of the same classes, name all of them in "
                "label_definitions from the first fit on, or set warm_start=False."
            )
            raise InvalidLabelsError(msg)
        return self.adapter_

    def _training_settings(self) -> TrainingSettings:
        return TrainingSettings(
            learning_rate=self.learning_rate,
            max_epochs=self.max_epochs,
            batch_size=self.train_batch_size,
            warmup_ratio=self.warmup_ratio,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            target_loss=self.target_loss,
            max_batch_tokens=self._token_budget(),
            gradient_checkpointing=self.gradient_checkpointing,
            loss=self.loss,
        )
