"""An estimator that shares a model: cloned without copying it, pickled without its weights."""

from __future__ import annotations

import pickle
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from instructclf.classifiers.observing import ObservedFit
from instructclf.engine.models.loading import BaseModel, DeviceMap
from instructclf.engine.models.registry import clear_base_models, get_base_model

MODEL_CONSTRAINTS: dict[str, list[Any]] = {
    "model": [str, PathLike, tuple],
    "max_batch_tokens": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
    "device": [str, None],
    "dtype": [str, None],
    "quantization": [StrOptions({"4bit"}), None],
    "device_map": [StrOptions({"auto"}), dict, None],
}
"""What the parameters that say where a model comes from and how it runs may be."""


class SharedModelEstimator(ObservedFit, BaseEstimator):
    """Base of estimators over texts that hold a base model's name, or share the model itself."""

    model: str | PathLike[str] | tuple[Any, Any]
    max_batch_tokens: int | str | None
    device: str | None
    dtype: str | None
    quantization: str | None
    device_map: DeviceMap

    def _get_base(self) -> BaseModel:
        """Return the base model, and hold it, so that the registry finds it while this lives."""
        self._base = get_base_model(
            self.model,
            device=self.device,
            dtype=self.dtype,
            quantization=self.quantization,
            device_map=self.device_map,
        )
        return self._base

    def _get_fitted_base(self) -> BaseModel:
        """Return the base model that ``fit`` used, whatever is at its place meanwhile."""
        own = vars(self).get("_base")
        return self._get_base() if own is None else own

    def _token_budget(self) -> int | None:
        budget = self.max_batch_tokens
        return int(budget) if isinstance(budget, Integral) else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    _OF_THE_MODEL = ("_base", "_reader", "_scorer")
    """Attributes that read the model's weights, found again where they are needed."""
    _LEARNED_LAST: ClassVar[tuple[str, ...]]
    """Attributes of which one is there if this is fitted."""

    def __sklearn_is_fitted__(self) -> bool:
        return any(hasattr(self, name) for name in self._LEARNED_LAST)

    def _unfit(self) -> None:
        """Count as unfitted from here on, so that a fit that fails leaves no mixture of two."""
        for name in (*self._LEARNED_LAST, *self._OF_THE_MODEL):
            vars(self).pop(name, None)

    def __sklearn_clone__(self) -> Self:
        # scikit-learn copies parameters deeply, and a model given as an object must stay shared.
        bare = type(self).__new__(type(self))
        vars(bare).update(vars(self) | {"model": ""})
        clone: Any = super(SharedModelEstimator, bare).__sklearn_clone__()
        clone.model = self.model
        return clone

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.model, tuple):
            msg = (
                f"A {type(self).__name__} whose 'model' is a pair of objects cannot be pickled: "
                "its base weights would go along. Save the model to a folder and give its path."
            )
            raise pickle.PicklingError(msg)
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name not in self._OF_THE_MODEL}


def clear_models() -> None:
    """Forget the base models that this process keeps loaded for classifiers to come.

    Two are kept at most, those used last. The memory of a model is free once no fitted classifier
    holds it either. A classifier goes on working; what is needed again is loaded again.

    Examples
    --------
    >>> import instructclf
    >>> instructclf.clear_models()
    """
    clear_base_models()
