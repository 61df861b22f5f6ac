"""An estimator and its rows → a fingerprint, so that a stored result is known to be theirs.

The fingerprint is of a description in plain values: the classes with their source and parameters,
the rows, the seed and the versions. What cannot be described so is an error, never left out.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from os import PathLike
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

import numpy as np
import sklearn
from sklearn.utils._param_validation import InvalidParameterError

import instructclf

_parsing = threading.Lock()
"""Python 3.11 counts how deep it parses for all threads together, and fails if two do at once."""


def fingerprint(**parts: Any) -> str:
    """Return a text that is another one wherever a part is.

    Parameters
    ----------
    **parts : object
        Estimators, arrays, texts, functions and containers of these.

    Returns
    -------
    str
        A SHA-256 digest in hexadecimal.

    Raises
    ------
    InvalidParameterError
        If something in a part cannot be described, such as a loaded model.
    """
    versions = {"instructclf": instructclf.__version__, "scikit-learn": sklearn.__version__}
    written = json.dumps([versions, describe(parts)], sort_keys=True)
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()


def describe(value: Any) -> Any:
    """Return a value as what JSON can hold, different for different values.

    Parameters
    ----------
    value : object
        An estimator, an array, a text, a function or a container of these.

    Returns
    -------
    object
        Numbers, texts, lists and dicts.

    Raises
    ------
    InvalidParameterError
        If the value cannot be described.
    """
    if value is None or isinstance(value, bool | int | float | str | PurePath):
        return [type(value).__name__, repr(value)]
    if isinstance(value, np.ndarray | np.generic):
        return _describe_array(np.asarray(value))
    if isinstance(value, Mapping | Set | Sequence | bytes):
        return _describe_container(value)
    if isinstance(value, FunctionType | BuiltinFunctionType | CodeType | np.ufunc):
        return _describe_code(value)
    return _describe_object(value)


def _describe_object(value: Any) -> Any:
    if isinstance(value, type):
        return ["class", _name(value), _source(value)]
    if hasattr(value, "get_params"):
        return _describe_estimator(value)
    if is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        return [describe(type(value)), describe(own)]
    msg = (
        f"With a folder, what an estimator is made of must be recognised when it comes again, and "
        f"a {_name(type(value))} cannot be. Give a model by name instead of as objects, or leave "
        "the folder out."
    )
    raise InvalidParameterError(msg)


def _describe_estimator(estimator: Any) -> Any:
    parameters = estimator.get_params(deep=False)
    files = [_describe_files(value) for name, value in parameters.items() if "model" in name]
    return ["estimator", describe(type(estimator)), describe(parameters), files]


def _describe_container(value: Any) -> Any:
    kind = type(value).__name__
    if isinstance(value, bytes):
        return [kind, value.hex()]
    if isinstance(value, Mapping):
        return [kind, [[describe(key), describe(item)] for key, item in value.items()]]
    described = [describe(item) for item in value]
    return [kind, sorted(described, key=json.dumps) if isinstance(value, Set) else described]


def _describe_array(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind in "OT":  # the bytes of these are addresses
        return ["array", array.dtype.kind, list(array.shape), describe(array.ravel().tolist())]
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return ["array", array.dtype.str, list(array.shape), digest]


def _describe_code(value: Any) -> Any:
    """Describe a function by what it does, as all lambdas have the same name."""
    if isinstance(value, CodeType):
        return ["code", value.co_code.hex(), list(value.co_names), describe(value.co_consts)]
    if not isinstance(value, FunctionType):
        return ["function", getattr(value, "__module__", None), value.__name__]
    enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
    defaults = [value.__defaults__, value.__kwdefaults__]
    name = f"{value.__module__}.{value.__qualname__}"
    return ["function", name, describe(value.__code__), describe(defaults), describe(enclosed)]


def _describe_files(value: Any) -> list[Any]:
    """Return sizes and times of the files of a model, if this is the folder of one."""
    if not isinstance(value, str | PathLike) or not Path(value).is_dir():
        return []
    found = sorted(path for path in Path(value).rglob("*") if path.is_file())
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in found]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _source(kind: type) -> str | None:
    """Return the source of a class, or nothing where there is none to read."""
    try:
        with _parsing:
            return inspect.getsource(kind)
    except (OSError, TypeError):  # defined in an interactive session, or built in
        return None
