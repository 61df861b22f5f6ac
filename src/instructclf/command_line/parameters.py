"""NAME=VALUE → parameters of an estimator, in the types that the estimator itself admits."""

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

_WORDS = {"none": None, "null": None, "true": True, "false": False}
SAID_OTHERWISE = {
    "model": "--model",
    "label_definitions": "--define or --definitions",
    "verbose": "--progress or --no-progress",
}
"""Parameters that have options of their own."""


def read_parameters(
    kind: type, assignments: Sequence[tuple[str, str]], options: Mapping[str, str] = SAID_OTHERWISE
) -> dict[str, Any]:
    """Return what was written on the command line as values of an estimator's parameters.

    Parameters
    ----------
    kind : type
        The estimator's class.
    assignments : sequence of (str, str)
        Names and what was written for them. The last of one name counts.
    options : mapping of str to str, default=SAID_OTHERWISE
        Parameters that are given by other options, and these.

    Returns
    -------
    dict
        The values by name.

    Raises
    ------
    InvalidParameterError
        If there is no such parameter, it has an option of its own, or the value is outside of its
        domain.
    """
    return {name: _read_parameter(kind, name, text, options) for name, text in assignments}


def has_parameter(kind: type, name: str) -> bool:
    """Say whether an estimator has a parameter of this name."""
    return name in _constraints(kind)


def _read_parameter(kind: type, name: str, text: str, options: Mapping[str, str]) -> Any:
    constraints = _constraints(kind).get(name)
    if constraints is None:
        known = ", ".join(one for one in signature(kind).parameters if one not in options)
        msg = f"{kind.__name__} has no parameter {name!r}. Its parameters are {known}."
        raise InvalidParameterError(msg)
    if name in options:
        msg = f"The {name!r} parameter is given by {options[name]}. Leave out --param {name}=…."
        raise InvalidParameterError(msg)
    if constraints == "no_validation":
        msg = (
            f"The {name!r} parameter of {kind.__name__} takes an object, which a command line "
            "cannot give. Use it from Python."
        )
        raise InvalidParameterError(msg)
    candidates = list(_read_in_any_way(text))
    checks = [make_constraint(constraint) for constraint in constraints]
    for value in candidates:
        if any(check.is_satisfied_by(value) for check in checks):
            return value
    # None fits. The first is the most specific, and the estimator's own sentence refuses it.
    validate_parameter_constraints(
        {name: constraints}, {name: candidates[0]}, caller_name=kind.__name__
    )
    return candidates[0]


def _constraints(kind: Any) -> Mapping[str, Any]:
    return kind._parameter_constraints


def _read_in_any_way(text: str) -> Iterator[Any]:
    """Yield what a text can mean, the most specific first: a word of Python, JSON, or itself."""
    if text.lower() in _WORDS:
        yield _WORDS[text.lower()]
    for read in (json.loads, float):  # JSON has no .5
        try:
            yield read(text)
        except ValueError:
            continue
    yield text
