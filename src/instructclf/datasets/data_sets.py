"""A data set of ``datasets`` → rows, with the names of classes in place of their numbers.

A data set is known by what it can do, so that ``datasets`` is imported by whoever made it only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from instructclf.datasets.class_names import name_classes
from instructclf.datasets.rows import Row
from instructclf.exceptions import DataFormatError


def read_data_set(source: Any, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a data set.

    Parameters
    ----------
    source : datasets.Dataset
        One split of a data set.
    columns : sequence of str
        The columns to read. Where one is missing all are read, so that it can be said which there
        are.

    Yields
    ------
    Row
        Place and values of each row.

    Raises
    ------
    DataFormatError
        If this is no data set, has several splits, or is streamed.
    """
    _check_one_split(source)
    wanted = [name for name in dict.fromkeys(columns) if name in source.column_names]
    is_whole = len(wanted) == len(set(columns))
    rows = source.select_columns(wanted) if is_whole else source
    names = {
        column: feature.names
        for column, feature in rows.features.items()
        if hasattr(feature, "names")
    }
    for number, values in enumerate(rows.with_format(None), start=1):
        place = f"The data set, row {number}"
        yield Row(place, name_classes(place, values, names))


def _check_one_split(source: Any) -> None:
    if isinstance(source, dict) and all(hasattr(one, "features") for one in source.values()):
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
            f"This data set is streamed (a {type(source).__name__}), so it has no end that is "
            "known, and a classifier takes rows that are there. Take some of them: "
            "datasets.Dataset.from_list(list(data_set.take(1000)), features=data_set.features)."
        )
        raise DataFormatError(msg)
