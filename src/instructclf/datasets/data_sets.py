"""A data set of ``datasets`` → rows, with class names in place of numbers.

A data set is recognised by its methods, so this module need not import ``datasets``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from instructclf.datasets.class_names import name_classes
from instructclf.datasets.tables import Row
from instructclf.exceptions import DataFormatError


def read_data_set(source: Any, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a data set, with some columns.

    If one is missing, all are read, so that the error can list them.

    Raises
    ------
    DataFormatError
        If this is not a data set, has several splits, or is streamed.
    """
    _check_one_split(source)
    wanted = [name for name in dict.fromkeys(columns) if name in source.column_names]
    is_complete = len(wanted) == len(set(columns))
    rows = source.select_columns(wanted) if is_complete else source
    names = {
        column: feature.names
        for column, feature in rows.features.items()
        if hasattr(feature, "names")
    }
    for number, values in enumerate(rows.with_format(None), start=1):
        location = f"The data set, row {number}"
        yield Row(location, name_classes(location, values, names))


def _check_one_split(source: Any) -> None:
    if isinstance(source, dict) and all(hasattr(split, "features") for split in source.values()):
        msg = (
            f"This is a {type(source).__name__} of several splits. Choose one of them: "
            f"{', '.join(repr(name) for name in source)}."
        )
        raise DataFormatError(msg)
    if not hasattr(source, "features") or not hasattr(source, "column_names"):
        msg = (
            f"Labelled texts are read from a file or from a datasets.Dataset. Got {source!r}, a "
            f"{type(source).__name__}."
        )
        raise DataFormatError(msg)
    if not hasattr(source, "__len__"):
        msg = (
            f"This data set is streamed (a {type(source).__name__}), so its length is unknown, but "
            "a classifier needs all rows at once. Take some of them: "
            "datasets.Dataset.from_list(list(data_set.take(1000)), features=data_set.features)."
        )
        raise DataFormatError(msg)
