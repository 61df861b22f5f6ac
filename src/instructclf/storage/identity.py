"""A value → a fingerprint, which says whether something stored belongs to the same value.

joblib hashes the parts of the value. Functions, classes and compiled objects count by the name
under which they can be imported, so a change of their code is not noticed.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from operator import attrgetter
from os import PathLike
from pathlib import Path
from types import FunctionType
from typing import Any

import joblib
import numpy as np

_ATOMS = {type(None), bool, int, float, str, bytes}
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE: built-in types, some of which have no public name
_MODEL_PARAMETERS = ("model", "embedder")
"""Words in the names of parameters that may hold the path of a model."""


def fingerprint(value: Any) -> str:
    """Return a text that is equal for equal values, in every process, and differs for others.

    Parameters
    ----------
    value : object
        Numbers, texts, arrays, tensors, scikit-learn estimators (which count by their class and
        parameters), importable functions and classes, objects that can be pickled, and containers
        of all these. For a path in a parameter or under a key that names a model, the names, sizes
        and times of the files there count too.

    Returns
    -------
    str
        A SHA-1 digest in hexadecimal.

    Raises
    ------
    TypeError
        If the value holds something that cannot be recognised in another process: a loaded model, a
        function or class that cannot be imported, or an object that cannot be pickled.
    """
    try:
        return str(joblib.hash(_describe(value), hash_name="sha1"))
    except RecursionError:
        msg = "A value that contains itself or is nested too deeply cannot be recognised."
        raise TypeError(msg) from None


def _describe(value: Any) -> Any:
    """Return nested lists of numbers, texts and arrays. No two parts are the same object.

    Pickle, with which joblib hashes, writes an object that it meets again as a reference. Equal
    values would then differ by how many of their parts are shared.
    """
    if type(value) in _ATOMS:
        return value
    kind = _name(type(value))
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        # The bytes of objects and of variable-length strings are addresses.
        content = _describe(array.tolist()) if array.dtype.kind in "OT" else array
        return [kind, str(array.dtype), np.shape(value), content]
    if isinstance(value, Mapping):
        return [kind, [[_describe(k), _describe(v), _stamp(k, v)] for k, v in value.items()]]
    if isinstance(value, Set):
        return [kind, sorted(fingerprint(item) for item in value)]
    if isinstance(value, list | tuple):
        return [kind, [_describe(item) for item in value]]
    return [kind, _describe_object(value)]


def _describe_object(value: Any) -> Any:
    if isinstance(value, type | FunctionType):
        return _name(value)
    if hasattr(value, "get_params"):
        return _describe(value.get_params(deep=False))
    if is_dataclass(value):
        return _describe({field.name: getattr(value, field.name) for field in fields(value)})
    if hasattr(value, "element_size"):  # a tensor
        flat = value.detach().cpu().contiguous().reshape(-1)
        data = flat.view(sys.modules["torch"].uint8).numpy()  # NumPy has no bfloat16
        return [str(value.dtype), list(value.shape), data]
    if hasattr(value, "state_dict"):
        msg = f"A loaded model such as {_name(type(value))} cannot be recognised. Give its name."
        raise TypeError(msg)
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception as error:  # a class may raise anything if it cannot be pickled
        msg = f"An object of class {_name(type(value))} cannot be recognised: {error}"
        raise TypeError(msg) from error
    if isinstance(reduced, str):  # a global name
        return _name(value, reduced)
    # The rest of the tuple are a state, and iterators of items and pairs.
    function, arguments, state, *items = (*reduced, None)[:5]
    return [_describe(part) for part in (function, arguments, state, *map(_listed, items))]


def _listed(items: Any) -> Any:
    return None if items is None else list(items)


def _name(value: Any, name: str | None = None) -> str:
    """Return the name under which a class, a function or a constant can be imported."""
    module = getattr(value, "__module__", None) or type(value).__module__
    name = name or str(value.__qualname__)
    try:
        found = attrgetter(name)(sys.modules[module])
    except (AttributeError, KeyError):
        found = None
    if found is not value and not getattr(value, "__flags__", 0) & _IMMUTABLE:
        msg = (
            f"{module}.{name} cannot be recognised, because it cannot be imported under this name. "
            "Define it at the top of a module."
        )
        raise TypeError(msg)
    return f"{module}.{name}"


def _stamp(name: Any, value: Any) -> list[Any]:
    """Return the sizes and times of the files of models, if a parameter may hold their paths."""
    if not isinstance(name, str) or not any(word in name for word in _MODEL_PARAMETERS):
        return []
    values = value if isinstance(value, list | tuple) else [value]
    return [_stamp_files(one) for one in values if isinstance(one, str | PathLike)]


def _stamp_files(model: str | PathLike[str]) -> list[Any]:
    """Return facts of a file, or of all files in a folder; of a name on the hub none."""
    try:
        path = Path(model).expanduser()
        files = sorted(found for found in [path, *path.rglob("*")] if found.is_file())
    except (OSError, RuntimeError):  # a text too long for a path, or with the ~ of no user
        return []
    facts = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    return [[name, fact.st_size, fact.st_mtime_ns] for name, fact in facts]
