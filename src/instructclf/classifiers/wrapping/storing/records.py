"""Parameters and fitted values ↔ ``classifier.json``, with errors that name the value and file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from instructclf.classifiers.saving.folders import FILE
from instructclf.classifiers.saving.json_values import from_json, to_json
from instructclf.classifiers.saving.places import Place
from instructclf.exceptions import SavedClassifierError


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON holds them.

    Raises
    ------
    SavedClassifierError
        If one cannot be written as text.
    """
    return {name: to_json(value, name) for name, value in values.items()}


def describe_fitted(classifier: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the fitted attributes of these names as JSON holds them."""
    return describe({name: getattr(classifier, name) for name in names})


def take(record: Mapping[str, Any], name: str, kind: type, place: Place) -> Any:
    """Return an entry of a record.

    Raises
    ------
    SavedClassifierError
        If it is missing or of another kind.
    """
    if not isinstance(record.get(name), kind):
        raise refuse(place, f"its {name!r} is {record.get(name)!r}, and no {kind.__name__}")
    return record[name]


def read_values(values: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Return what `describe` was given.

    Raises
    ------
    SavedClassifierError
        If one is nothing that `describe` writes.
    """
    return {name: _read_value(name, value, place) for name, value in values.items()}


def _read_value(name: str, plain: Any, place: Place) -> Any:
    try:
        return from_json(plain)
    except (SavedClassifierError, TypeError, ValueError) as error:
        raise refuse(place, f"{name} cannot be read: {error}") from error


def set_fitted(
    classifier: Any, record: Mapping[str, Any], names: Iterable[str], place: Place
) -> Any:
    """Set the fitted attributes of these names, and return the classifier.

    Raises
    ------
    SavedClassifierError
        If one is missing or cannot be read.
    """
    fitted = record["fitted"]
    for name in names:
        if name not in fitted:
            raise refuse(place, f"it has no {name}")
        setattr(classifier, name, _read_value(name, fitted[name], place))
    return classifier


def refuse(place: Place, what: str) -> SavedClassifierError:
    """Return an error about the content of a folder's ``classifier.json``."""
    msg = (
        f"{place.folder / FILE} is not what was saved: {what.rstrip('.')}. The file was changed or "
        "is incomplete: save the classifier again, or copy all files."
    )
    return SavedClassifierError(msg)
