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
    """Return the class names that ``datasets`` stored in metadata of Arrow, if any."""
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


def name_class(
    location: str, column: str, value: Any, names: Sequence[str], *, has_types: bool = True
) -> Any:
    """Return the name of a class, or ``None`` for a missing label.

    The value is its number or its name. If names look like numbers, as "1" to "5" do for 0 to 4, a
    text is a name in a file with types, and else a number.

    Raises
    ------
    DataFormatError
        If the value is neither the number nor the name of a class.
    """
    is_text = isinstance(value, str)
    is_ambiguous = is_text and _look_like_numbers(names)
    if is_text and value in names and (has_types or not is_ambiguous):
        return value
    if value is None or value in (_NO_LABEL, str(_NO_LABEL)):
        return None
    number = int(value) if isinstance(value, int) or (is_text and value.isdecimal()) else -1
    if 0 <= number < len(names) and not (is_ambiguous and has_types):
        return names[number]
    msg = (
        f"{location}: {column!r} is {value!r}, which is neither one of the {len(names)} class "
        f"names {list(names)!r} nor the number of one."
    )
    if is_ambiguous:
        kind = "names" if has_types else f"numbers from 0 to {len(names) - 1}"
        msg = (
            f"{location}: {column!r} is {value!r}. The class names {list(names)!r} look like "
            f"numbers, so that the texts of this column are read as {kind}. Leave out the names if "
            "the column has them already."
        )
    raise DataFormatError(msg)


def _look_like_numbers(names: Sequence[str]) -> bool:
    """Say whether a name is the number of a class with another name."""
    numbers = {str(number): name for number, name in enumerate(names)}
    return any(numbers.get(name, name) != name for name in names)
