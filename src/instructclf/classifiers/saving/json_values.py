"""Parameters and fitted values ↔ numbers, texts, lists and dicts, which JSON holds exactly.

Reading builds nothing but what is listed here, so that a file can never run code.
"""

from __future__ import annotations

import dataclasses
import math
from os import PathLike, fspath
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from instructclf import calibration, sampling
from instructclf.calibration import Calibration
from instructclf.classifiers import options
from instructclf.engine.tuning.adapters import LoraSettings
from instructclf.exceptions import SavedClassifierError
from instructclf.prompts import Prompt, PromptTemplate

_RECORDS: dict[str, type] = {
    kind.__name__: kind for kind in (Calibration, LoraSettings, Prompt, PromptTemplate)
}
_ESTIMATORS: dict[str, type] = {
    name: kind
    for room in (calibration, options, sampling)
    for name, kind in vars(room).items()
    if isinstance(kind, type) and issubclass(kind, BaseEstimator) and kind is not BaseEstimator
}
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_ARRAYS = "biufU"
"""Kinds of arrays: booleans, integers, floats and text."""


def to_json(value: Any, name: str) -> Any:
    """Return a value as numbers, texts, lists and dicts.

    Raises
    ------
    SavedClassifierError
        If it holds something that cannot be written as text, such as a loaded model.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {"number": repr(value)}
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, list | tuple | dict | np.ndarray | np.generic):
        return _container_to_json(value, name)
    return _object_to_json(value, name)


def _container_to_json(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [to_json(item, name) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [to_json(item, name) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[to_json(k, name), to_json(v, name)] for k, v in value.items()]}
    array = np.asarray(value)
    if array.dtype.kind not in _ARRAYS:
        return _object_to_json(value, name)
    items = [to_json(item, name) for item in array.ravel().tolist()]
    return {"array": items, "dtype": array.dtype.str, "shape": list(array.shape)}


def _object_to_json(value: Any, name: str) -> Any:
    kind = type(value)
    if _RECORDS.get(kind.__name__) is kind:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"record": kind.__name__, "fields": to_json(fields, name)}
    if _ESTIMATORS.get(kind.__name__) is kind:
        parameters = value.get_params(deep=False)
        return {"estimator": kind.__name__, "parameters": to_json(parameters, name)}
    remedy = "Give an int." if isinstance(value, np.random.RandomState) else _remedy(value)
    msg = f"{name}={value!r} cannot be saved as text: it is a {kind.__name__}. {remedy}"
    raise SavedClassifierError(msg)


def _remedy(value: Any) -> str:
    if isinstance(value, BaseEstimator):
        return "Only estimators of this package, with parameters that are numbers or texts, can be."
    return "Give a name, a number, or one of this package's own objects."


def from_json(plain: Any) -> Any:
    """Return the value that `to_json` was given.

    Raises
    ------
    SavedClassifierError
        If this is nothing that `to_json` writes.
    """
    if isinstance(plain, list):
        return [from_json(item) for item in plain]
    return _from_tagged(plain) if isinstance(plain, dict) else plain


def _from_tagged(plain: dict[str, Any]) -> Any:
    match plain:
        case {"tuple": list(items)}:
            value = tuple(from_json(items))
        case {"dict": list(pairs)}:
            value = {from_json(key): from_json(item) for key, item in pairs}
        case {"number": str(number)} if number in _NUMBERS:
            value = _NUMBERS[number]
        case {"array": list(items), "dtype": str(dtype), "shape": list(shape)}:
            value = _read_array(from_json(items), dtype, shape)
        case {"record": str(name), "fields": fields} if name in _RECORDS:
            value = _RECORDS[name](**from_json(fields))
        case {"estimator": str(name), "parameters": parameters} if name in _ESTIMATORS:
            value = _ESTIMATORS[name](**from_json(parameters))
        case _:
            msg = (
                f"The saved classifier holds {str(plain)[:80]!r}, which this version cannot read. "
                "It was changed, or saved by a newer instructclf: upgrade."
            )
            raise SavedClassifierError(msg)
    return value


def _read_array(items: list[Any], dtype: str, shape: list[int]) -> Any:
    if np.dtype(dtype).kind not in _ARRAYS:
        msg = f"The saved classifier holds an array of {dtype!r}, which is none of its kinds."
        raise SavedClassifierError(msg)
    array = np.array(items, dtype=dtype).reshape(shape)
    return array if shape else array[()]
