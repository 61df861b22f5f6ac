"""NAME=VALUE → parameters of an estimator, converted to the types that it accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from sklearn.utils._param_validation import (
    InvalidParameterError,
    make_constraint,
    validate_parameter_constraints,
)

from instructclf import LoRA, ModelOptions, TrainingOptions
from instructclf.inputs.spelling import did_you_mean

_NESTED: Mapping[str, Any] = {
    "model_options": ModelOptions,
    "adapter": LoRA,
    "training_options": TrainingOptions,
}
"""Parameters with nested parameters, such as ``adapter__rank``."""
_WORDS = {"none": None, "null": None, "true": True, "false": False}
OTHER_OPTIONS = {
    "model": "--model",
    "label_definitions": "--define or --definitions",
    "verbose": "--progress or --no-progress",
}
"""Parameters with a dedicated option."""


def read_parameters(
    kind: type,
    assignments: Sequence[tuple[str, str]],
    other_options: Mapping[str, str] = OTHER_OPTIONS,
) -> dict[str, Any]:
    """Convert assignments of the command line to values of an estimator's parameters.

    The last value of a name counts.

    Raises
    ------
    InvalidParameterError
        If there is no such parameter, it has a dedicated option, it takes an object, or the value
        is outside its domain.
    """
    return {name: _read_parameter(kind, name, text, other_options) for name, text in assignments}


def has_parameter(kind: type, name: str) -> bool:
    """Return whether an estimator has a parameter of this name, which may be nested."""
    return name in [*signature(kind).parameters, *_nested_names(kind)]


def _nested_names(kind: type) -> list[str]:
    held = {name: _NESTED[name] for name in signature(kind).parameters if name in _NESTED}
    return [f"{name}__{nested}" for name in held for nested in signature(held[name]).parameters]


def _read_parameter(kind: Any, name: str, text: str, other_options: Mapping[str, str]) -> Any:
    if not has_parameter(kind, name):
        names = [*signature(kind).parameters, *_nested_names(kind)]
        known = ", ".join(one for one in names if one not in other_options and one not in _NESTED)
        hint = did_you_mean([name], names)
        msg = f"{kind.__name__} has no parameter {name!r}. Its parameters are {known}.{hint}"
        raise InvalidParameterError(msg)
    if name in other_options:
        msg = f"The {name!r} parameter is given by {other_options[name]}. Leave out --param {name}."
        raise InvalidParameterError(msg)
    if name in _NESTED:
        nested = next(one for one in _nested_names(kind) if one.startswith(name))
        msg = (
            f"The {name!r} parameter of {kind.__name__} takes an object. Set the object's "
            f"parameters, such as --param {nested}=…, or use Python."
        )
        raise InvalidParameterError(msg)
    prefix, _, nested = name.rpartition("__")
    owner = _NESTED[prefix] if prefix else kind
    return _convert(owner, nested, text)


def _convert(owner: Any, name: str, text: str) -> Any:
    """Return the first interpretation of a text that the parameter accepts."""
    constraints = owner._parameter_constraints[name]
    candidates = list(_interpret(text))
    checks = [make_constraint(constraint) for constraint in constraints]
    for value in candidates:
        if any(check.is_satisfied_by(value) for check in checks):
            return value
    # The first candidate is the most specific one. This raises scikit-learn's error about it.
    validate_parameter_constraints(
        {name: constraints}, {name: candidates[0]}, caller_name=owner.__name__
    )
    return candidates[0]


def _interpret(text: str) -> Iterator[Any]:
    """Yield the values that a text can mean, the most specific first, the text itself last."""
    if text.lower() in _WORDS:
        yield _WORDS[text.lower()]
    for read in (json.loads, float):  # JSON does not accept .5
        try:
            yield read(text)
        except ValueError:
            continue
    yield text
