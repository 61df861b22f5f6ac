"""Parameters and fitted attributes ↔ plain values that JSON holds exactly.

Reading builds nothing but what is listed here, so that a file can never run code.
"""

from __future__ import annotations

import dataclasses
import math
from os import PathLike, fspath
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from instructclf import sampling
from instructclf.classifiers.calibration import BatchCalibration, Calibration
from instructclf.exceptions import SavedClassifierError
from instructclf.prompts import Prompt, PromptTemplate

_RECORDS: dict[str, type] = {
    kind.__name__: kind for kind in (BatchCalibration, Calibration, Prompt, PromptTemplate)
}
_SAMPLERS: dict[str, type] = {
    name: getattr(sampling, name) for name in sampling.__all__ if name.endswith("Sampler")
}
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_ARRAYS = "biufU"
"""Kinds of arrays: booleans, integers, floats and text."""


def to_plain(value: Any, name: str) -> Any:
    """Return a value as numbers, texts, lists and dicts.

    Parameters
    ----------
    value : object
        A parameter or a fitted attribute.
    name : str
        What to call it in an error.

    Returns
    -------
    object
        What `from_plain` makes an equal value of.

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
        return _container_to_plain(value, name)
    return _object_to_plain(value, name)


def _container_to_plain(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [to_plain(item, name) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [to_plain(item, name) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[to_plain(k, name), to_plain(v, name)] for k, v in value.items()]}
    array = np.asarray(value)
    if array.dtype.kind not in _ARRAYS:
        return _object_to_plain(value, name)
    items = [to_plain(item, name) for item in array.ravel().tolist()]
    return {"array": items, "dtype": array.dtype.str, "shape": list(array.shape)}


def _object_to_plain(value: Any, name: str) -> Any:
    kind = type(value)
    if _RECORDS.get(kind.__name__) is kind:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"record": kind.__name__, "fields": to_plain(fields, name)}
    if _SAMPLERS.get(kind.__name__) is kind:
        parameters = value.get_params(deep=False)
        return {"sampler": kind.__name__, "parameters": to_plain(parameters, name)}
    remedy = "Give an int." if isinstance(value, np.random.RandomState) else _remedy(value)
    msg = f"{name}={value!r} cannot be saved as text: it is a {kind.__name__}. {remedy}"
    raise SavedClassifierError(msg)


def _remedy(value: Any) -> str:
    if isinstance(value, BaseEstimator):
        return "Only samplers of instructclf.sampling with plain parameters can be."
    return "Give a name, a number, or one of this package's own objects."


def from_plain(plain: Any) -> Any:
    """Return the value that `to_plain` was given.

    Parameters
    ----------
    plain : object
        Numbers, texts, lists and dicts.

    Returns
    -------
    object
        The value.

    Raises
    ------
    SavedClassifierError
        If this is nothing that `to_plain` writes.
    """
    if isinstance(plain, list):
        return [from_plain(item) for item in plain]
    return _from_tagged(plain) if isinstance(plain, dict) else plain


def _from_tagged(plain: dict[str, Any]) -> Any:
    match plain:
        case {"tuple": list(items)}:
            value = tuple(from_plain(items))
        case {"dict": list(pairs)}:
            value = {from_plain(key): from_plain(item) for key, item in pairs}
        case {"number": str(number)} if number in _NUMBERS:
            value = _NUMBERS[number]
        case {"array": list(items), "dtype": str(dtype), "shape": list(shape)}:
            value = _read_array(from_plain(items), dtype, shape)
        case {"record": str(name), "fields": fields} if name in _RECORDS:
            value = _RECORDS[name](**from_plain(fields))
        case {"sampler": str(name), "parameters": parameters} if name in _SAMPLERS:
            value = _SAMPLERS[name](**from_plain(parameters))
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
