"""An estimator and its rows → a fingerprint, so that a stored result is known to be theirs.

The fingerprint is of a description in plain values: the classes with their source and parameters,
the rows, the seed and the versions. What cannot be described so is an error, never left out.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
import sys
import threading
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from os import PathLike
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    EllipsisType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import sklearn
from sklearn.utils._param_validation import InvalidParameterError

import instructclf

_PLAIN = bool | int | float | complex | str | range | EllipsisType | PurePath
_COMPILED = (
    BuiltinFunctionType
    | MethodWrapperType
    | MethodDescriptorType
    | ClassMethodDescriptorType
    | WrapperDescriptorType
    | np.ufunc
    | type(np.mean)  # of most functions of NumPy, under a private name
)
"""Functions that no code of Python stands for."""
_PARTS: dict[type, tuple[str, ...]] = {
    re.Pattern: ("pattern", "flags"),
    functools.partial: ("func", "args", "keywords"),
    MethodType: ("__func__", "__self__"),
    slice: ("start", "stop", "step"),
}
"""What tells apart the objects of these classes, which are compiled."""
_MODELS = ("model", "embedder")
"""What the names of parameters hold that may be paths of models."""
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE, which no class that is written in Python has
_parsing = threading.Lock()
"""Python 3.11 counts how deep it parses for all threads together, and fails if two do at once."""


class _RefusedError(InvalidParameterError):
    """Something that cannot be described, and the parameter that it was found in.

    Parameters
    ----------
    what : str
        The thing, with its article.
    remedy : str
        What to do about it, unless it is a model.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self._what = what
        self._remedy = remedy
        self._owner: tuple[Any, str] | None = None
        self._place = "what is evaluated"

    def locate(self, estimator: Any, name: str) -> None:
        """Note the parameter, by the name it has in an estimator ever further out."""
        self._owner = self._owner or (estimator, name)
        owner, own_name = self._owner
        names = {"": estimator, **estimator.get_params(deep=True)}
        found = [outer for outer, value in names.items() if value is owner]
        if found:
            full = f"{found[0]}__{own_name}".removeprefix("__")
            self._place = f"the {full!r} parameter of {type(estimator).__name__}"

    def __str__(self) -> str:
        is_model = self._owner is not None and _may_name_models(self._owner[1])
        remedy = "Give a model by name instead of as objects" if is_model else self._remedy
        return (
            f"With a folder, {self._place} must be recognised when it comes again, and "
            f"{self._what} cannot be. {remedy}, or leave the folder out."
        )


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
    try:
        described = describe(parts)
    except _RefusedError as refusal:
        raise InvalidParameterError(str(refusal)) from None  # the message says all there is
    written = json.dumps([versions, described], sort_keys=True)
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
    if value is None or isinstance(value, _PLAIN):
        return [type(value).__name__, repr(value)]
    if isinstance(value, np.ndarray | np.generic):
        return _describe_array(np.asarray(value))
    if isinstance(value, Mapping | Set | Sequence | bytes):
        return _describe_container(value)
    if isinstance(value, FunctionType | CodeType):
        return _describe_code(value)
    if isinstance(value, _COMPILED):
        return _describe_compiled(value)
    return _describe_object(value)


def _describe_object(value: Any) -> Any:
    if isinstance(value, type):
        return ["class", [[_name(kind), _source(kind)] for kind in value.__mro__]]
    if type(value) in _PARTS:
        parts = [getattr(value, name) for name in _PARTS[type(value)]]
        return [_name(type(value)), describe(parts)]
    if hasattr(value, "get_params"):
        return _describe_estimator(value)
    if is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        return [describe(type(value)), describe(own)]
    if not _is_its_attributes(value):
        raise _refuse_object(f"a {_name(type(value))}")
    return ["object", describe(type(value)), describe(dict(sorted(vars(value).items())))]


def _describe_estimator(estimator: Any) -> Any:
    parameters = estimator.get_params(deep=False)
    described = [_describe_parameter(estimator, *parameter) for parameter in parameters.items()]
    return ["estimator", describe(type(estimator)), described]


def _describe_parameter(estimator: Any, name: str, value: Any) -> Any:
    try:
        return describe({name: value})
    except _RefusedError as found:
        refusal = found
    except RecursionError:
        refusal = _refuse_object("a value that refers to itself or is nested too deep")
    refusal.locate(estimator, name)
    raise refusal


def _is_its_attributes(value: Any) -> bool:
    """Say whether an object surely holds nothing but its attributes.

    Compiled classes and slots keep values elsewhere. A class that says how it is pickled has a
    reason to, such as a file that is open or a time that is of no account.
    """
    kind = type(value)
    own_ways = ("__getstate__", "__reduce__", "__reduce_ex__")
    return (
        hasattr(value, "__dict__")
        and all(getattr(kind, way) is getattr(object, way) for way in own_ways)
        and not any(vars(base).get("__slots__") for base in kind.__mro__)
        and all(_source(base) for base in kind.__mro__ if base is not object)
    )


def _describe_container(value: Any) -> Any:
    kind = type(value).__name__
    if isinstance(value, bytes):
        return [kind, value.hex()]
    if isinstance(value, Mapping):
        return [kind, [[describe(k), describe(v), _describe_files(k, v)] for k, v in value.items()]]
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
        counts = [value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount]
        names = [list(value.co_names), list(value.co_varnames)]
        does = [value.co_code.hex(), value.co_exceptiontable.hex(), value.co_flags]
        return ["code", does, counts, names, describe(value.co_consts)]
    enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
    defaults = [value.__defaults__, value.__kwdefaults__]
    name = f"{value.__module__}.{value.__qualname__}"
    return ["function", name, describe(value.__code__), describe(defaults), describe(enclosed)]


def _describe_compiled(value: Any) -> Any:
    """Describe a function by its name and by what it is bound to, as ``{"a": 1}.get`` is."""
    if isinstance(value, np.ufunc):
        if value.__name__.endswith("(vectorized)"):  # all that frompyfunc makes of lambdas
            raise _refuse_object(f"the {value.__name__!r} of numpy.frompyfunc")
        return ["ufunc", value.__name__]
    holder = getattr(value, "__self__", getattr(value, "__objclass__", None))
    held = holder.__name__ if isinstance(holder, ModuleType) else describe(holder)
    names = [type(value).__name__, getattr(value, "__module__", None), value.__qualname__]
    return ["compiled", names, held]


def _describe_files(name: Any, value: Any) -> list[Any]:
    """Return sizes and times of the files of models, where a name says that there may be some."""
    if not _may_name_models(name):
        return []
    several = value if isinstance(value, list | tuple) else [value]
    return [_stamps(one) for one in several if isinstance(one, str | PathLike)]


def _may_name_models(name: Any) -> bool:
    return isinstance(name, str) and any(word in name for word in _MODELS)


def _stamps(model: str | PathLike[str]) -> list[Any]:
    """Return facts of the file, or of all in the folder, or nothing for a name of the hub."""
    try:
        path = Path(model).expanduser()
        if not path.exists():
            return []
    except (OSError, RuntimeError):  # a text too long for a path, or with a ~ that is nobody's
        return []
    files = sorted(found for found in [path, *path.rglob("*")] if found.is_file())
    facts = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    return [[name, fact.st_size, fact.st_mtime_ns] for name, fact in facts]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@functools.cache  # a class that is loaded anew is another object
def _source(kind: type) -> str | None:
    """Return a digest of the source of a class, or nothing for one that is compiled."""
    try:
        with _parsing:
            source = inspect.getsource(kind)
    except (OSError, TypeError):  # defined in an interactive session, or compiled
        source = ""
    # From Python 3.13 on, a class that is in no file gets whatever is at its line of the module's.
    is_its_own = re.search(rf"^\s*class {re.escape(kind.__name__)}\b", source, re.MULTILINE)
    if is_its_own and "<locals>" not in kind.__qualname__:
        return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    if _is_compiled(kind):
        return None
    raise _refuse_class(kind)


def _is_compiled(kind: type) -> bool:
    """Say whether a class without a source is one that only a release of its package changes."""
    package = kind.__module__.partition(".")[0]
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return (
        bool(kind.__flags__ & _IMMUTABLE)
        or file.endswith(tuple(EXTENSION_SUFFIXES))
        # What `exec` makes says that it is of builtins, where all that is real is immutable.
        or (package in sys.stdlib_module_names and package != "builtins")
    )


def _refuse_object(what: str) -> _RefusedError:
    remedy = "Give a number, a text, a function, an estimator or an object that holds only such"
    return _RefusedError(what, remedy)


def _refuse_class(kind: type) -> _RefusedError:
    """Refuse one that is in no file, or in a function, by whose values it may differ."""
    remedy = "Put it at the top of a module and import it, so that its source tells what it does"
    return _RefusedError(f"the class {_name(kind)}", remedy)
