"""Class numbers → class names, for data sets of the Hugging Face hub.

``datasets`` stores a ``ClassLabel`` as an integer, with ``-1`` for a row without a label. The names
are in the features of a ``Dataset``, and in the metadata of a parquet file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from instructclf.exceptions import DataFormatError

ClassNames = Mapping[str, Sequence[str]]
"""Class names by column."""
_METADATA = b"huggingface"
_NO_LABEL = -1


def find_class_names(metadata: Mapping[bytes, bytes] | None) -> ClassNames:
    """Return the class names that ``datasets`` stored in the metadata of a file.

    Parameters
    ----------
    metadata : mapping of bytes to bytes or None
        The metadata of an Arrow schema.

    Returns
    -------
    mapping of str to sequence of str
        The names by column, empty if the metadata has none.
    """
    try:
        features = json.loads((metadata or {})[_METADATA])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):  # metadata in another format
        return {}


def name_classes(location: str, values: dict[str, Any], names: ClassNames) -> dict[str, Any]:
    """Replace the class numbers of a row at a location by names, column by column."""
    named = {
        column: name_class(location, column, values[column], column_names)
        for column, column_names in names.items()
        if column in values
    }
    return {**values, **named}


def name_class(location: str, column: str, value: Any, names: Sequence[str]) -> Any:
    """Return the name of a class.

    Parameters
    ----------
    location : str
        The location of its row, for errors.
    column : str
        Its column, for errors.
    value : object
        Its number, as int or str, or its name.
    names : sequence of str
        All names, in the order of the numbers.

    Returns
    -------
    object
        The name, or ``None`` for a missing label.

    Raises
    ------
    DataFormatError
        If the value is neither the number nor the name of a class.
    """
    if value is None or value in (_NO_LABEL, str(_NO_LABEL)):
        return None
    if value in names:
        return value
    is_number = isinstance(value, int) or (isinstance(value, str) and value.isdecimal())
    if is_number and 0 <= int(value) < len(names):
        return names[int(value)]
    msg = (
        f"{location}: {column!r} is {value!r}, which is neither one of the {len(names)} class "
        f"names {list(names)!r} nor the number of one."
    )
    raise DataFormatError(msg)
