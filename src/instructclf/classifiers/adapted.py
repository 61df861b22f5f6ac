"""A classifier whose base model has an adapter: what there is to it once it is fitted."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.saving import export_classifier
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.models.views import shared_view
from instructclf.engine.running.processes import is_first_process
from instructclf.engine.scoring.label_scoring import LabelScorer
from instructclf.engine.tuning.adapters import (
    Adapter,
    LoraSettings,
    PeftSettings,
    read_adapter,
    read_config,
)
from instructclf.engine.tuning.merging import merge_adapter
from instructclf.exceptions import SavedClassifierError


class AdaptedClassifier(PromptedClassifier):
    """Base of classifiers that score with an adapter.

    It is responsible for

    - describing the adapter, from the parameters that say what it looks like;
    - building it again from its weights, ``adapter_``, which a subclass finds in ``fit``;
    - writing it, reading it, and exporting it as one model with its base.
    """

    lora_rank: int
    lora_alpha: float | None
    lora_dropout: float
    target_modules: str | list[str] | tuple[str, ...]
    n_tuned_layers: int | None
    peft_config: Any
    seed_average: str
    adapter_: dict[str, Any]

    @property
    def _averages_predictions(self) -> bool:
        return self.seed_average == "log_proba" and super()._averages_predictions

    def _rebuild_scorer(self, base: BaseModel) -> LabelScorer:
        return self._make_scorer(base, self._make_adapter(base).model)

    def _make_adapter(self, base: BaseModel) -> Adapter:
        """Return the fitted adapter on a view of its own."""
        adapter = Adapter(shared_view(base.model), self._fitted_settings())
        adapter.load(self.adapter_)
        return adapter

    def _fitted_settings(self) -> LoraSettings | PeftSettings:
        """Describe the fitted adapter, whatever parameters have been set since.

        A loaded classifier has the parameters of its fit.
        """
        return vars(self).get("_fitted_as") or self._adapter_settings(self.n_seeds)

    def export(self, folder: str | PathLike[str]) -> None:
        """Write base model and adapter as one model, which plain transformers loads.

        The folder also gets the tokenizer, and ``prompt.json``: what stands before and after a
        text, the answers of each label, and the calibration. Of several processes that share the
        work only the first writes.

        Parameters
        ----------
        folder : str or path
            Where to. A model exported there before is replaced; anything else is an error.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        SavedClassifierError
            If there is no one model to write: of several seeds whose predictions are averaged, or
            of a base model in 4 bits; or if the folder holds something else.

        Notes
        -----
        Weights are written in the precision they are in. In half precision an update that is small
        beside a weight is rounded away: load with ``dtype="float32"`` to export scores that stay
        the same.
        """
        check_is_fitted(self)
        if self._averages_predictions:
            msg = (
                f"There is no one model to export: n_seeds={self.n_seeds} adapters are averaged by "
                "what they predict. Fit with seed_average='adapter', or export one of estimators_."
            )
            raise SavedClassifierError(msg)
        if self.quantization is not None:
            msg = (
                f"Updates cannot be added to weights in {self.quantization}. Save the classifier, "
                "and export instructclf.load(folder, quantization=None)."
            )
            raise SavedClassifierError(msg)
        if self.distributed is not None and not is_first_process():
            return
        base = self._get_fitted_base()
        merged = merge_adapter(base.model, self._fitted_settings(), self.adapter_)
        export_classifier(self, merged, base, folder)

    def _write_adapter(self, folder: Path, model_name: str) -> None:
        """Write the adapter's weights and configuration as PEFT does.

        Raises
        ------
        SavedClassifierError
            If parameters now describe another adapter: saved beside it, they would be believed.
        """
        fitted, described = self._fitted_settings(), self._adapter_settings(self.n_seeds)
        if fitted != described:
            msg = (
                f"Parameters have been set since this was fitted that describe another adapter, "
                f"{described}. The fitted one is {fitted}. Set them back, or fit again, then save."
            )
            raise SavedClassifierError(msg)
        self._make_adapter(self._get_fitted_base()).write(folder, model_name)

    @staticmethod
    def _read_config(folder: Path) -> Any:
        """Read what a configuration of PEFT was, as far as it describes the adapter."""
        return read_config(folder)

    def _read_adapter(self, folder: Path) -> None:
        """Read the adapter's weights, where there are any."""
        weights = read_adapter(folder)
        if weights is not None:
            self.adapter_ = weights
            self._adapter_classes = self.classes_

    def _adapter_settings(self, n_adapters: int = 1) -> LoraSettings | PeftSettings:
        """Describe an adapter, or the mean of several: its rank is the sum of theirs."""
        if self.peft_config is not None:
            return PeftSettings(self.peft_config)
        targets = self.target_modules
        alpha = 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
        return LoraSettings(
            rank=n_adapters * self.lora_rank,
            alpha=n_adapters * alpha,
            dropout=self.lora_dropout,
            target_modules=targets if isinstance(targets, str) else tuple(targets),
            n_layers=self.n_tuned_layers,
        )
