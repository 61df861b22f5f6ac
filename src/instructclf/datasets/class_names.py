"""Numbers of classes → their names, where a data set of the Hugging Face hub knows them.

``datasets`` stores a ``ClassLabel`` as an integer, ``-1`` for a row without a label, and its names
beside the rows: in the features of a ``Dataset``, and in the metadata of a parquet file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from instructclf.exceptions import DataFormatError

ClassNames = Mapping[str, Sequence[str]]
"""The names of classes, by column."""
_METADATA = b"huggingface"
_NO_LABEL = -1


def find_class_names(metadata: Mapping[bytes, bytes] | None) -> ClassNames:
    """Return the names of classes that ``datasets`` has written into a file's metadata.

    Parameters
    ----------
    metadata : mapping of bytes to bytes or None
        The metadata of an Arrow schema.

    Returns
    -------
    mapping of str to sequence of str
        The names by column. Empty where nothing is said about any.
    """
    try:
        features = json.loads((metadata or {})[_METADATA])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):  # somebody else's metadata
        return {}


def name_classes(place: str, values: dict[str, Any], names: ClassNames) -> dict[str, Any]:
    """Return the values of a row with names in place of numbers.

    Parameters
    ----------
    place : str
        Where the row stands.
    values : dict
        The values by column.
    names : mapping of str to sequence of str
        The names by column.

    Returns
    -------
    dict
        The values, ``None`` for a row without a label.

    Raises
    ------
    DataFormatError
        If a number has no name.
    """
    named = {
        column: name_class(place, column, values[column], own)
        for column, own in names.items()
        if column in values
    }
    return {**values, **named}


def name_class(place: str, column: str, value: Any, names: Sequence[str]) -> Any:
    """Return the name of one class.

    Parameters
    ----------
    place : str
        Where its row stands.
    column : str
        Its column.
    value : object
        Its number, also as text. Other text is a name already.
    names : sequence of str
        The names, in the order of the numbers.

    Returns
    -------
    object
        The name, or ``None`` for a row without a label.

    Raises
    ------
    DataFormatError
        If a number has no name, or something else is no name.
    """
    if value is None or value in (_NO_LABEL, str(_NO_LABEL)):
        return None
    if value in names:
        return value
    is_number = isinstance(value, int) or (isinstance(value, str) and value.isdecimal())
    if is_number and 0 <= int(value) < len(names):
        return names[int(value)]
    msg = (
        f"{place}: {column!r} is {value!r}, which is neither one of the {len(names)} names of "
        f"classes, {list(names)!r}, nor the number of one."
    )
    raise DataFormatError(msg)
