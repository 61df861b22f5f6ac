"""An estimator that shares a model: cloned without copying it, pickled without its weights."""

from __future__ import annotations

import pickle
from os import PathLike
from typing import Any, Self

from sklearn.base import BaseEstimator

from instructclf.engine.registry import clear_base_models


class SharedModelEstimator(BaseEstimator):
    """Base of estimators over texts that hold a base model's name, or share the model itself."""

    model: str | PathLike[str] | tuple[Any, Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "calibration_") or hasattr(self, "estimators_")  # learned last

    def _unfit(self) -> None:
        """Count as unfitted from here on, so that a fit that fails leaves no mixture of two."""
        for name in ("calibration_", "estimators_", "_scorer"):
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
        return {name: value for name, value in state.items() if name not in {"_base", "_scorer"}}


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
