"""File or stream of JSON, csv or parquet → rows, each a mapping of columns to values.

Every row carries its location, so that errors can name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from instructclf.datasets.arrow_files import arrow_rows, read_arrow
from instructclf.datasets.tables import Reading, Row, Table
from instructclf.datasets.text_files import read_text
from instructclf.exceptions import DataFormatError

_TEXT = (".jsonl", ".json", ".csv", ".tsv")
ENDINGS = (*_TEXT, *(f"{ending}.gz" for ending in _TEXT), ".parquet")
"""The supported endings of file names."""
_AS_IT_IS = Reading()


def read_rows(path: Path, reading: Reading = _AS_IT_IS) -> Iterator[Row]:
    """Yield the rows of a file in order.

    Raises
    ------
    DataFormatError
        If the ending is unknown, or the content does not match it.
    MissingExtraError
        If the file is parquet and pyarrow is not installed.
    """
    ending = find_ending(path)
    with path.open("rb") as stream:
        yield from read_stream(str(path), ending, stream, reading)


def find_ending(path: Path) -> str:
    """Return the ending of a file name, one of the ``ENDINGS``, in lower case.

    Raises
    ------
    DataFormatError
        If the name has none of them.
    """
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return ending
    msg = f"{path} does not end in one of {', '.join(ENDINGS)}. Convert or rename the file."
    raise DataFormatError(msg)


def read_stream(
    name: str, ending: str, stream: BinaryIO, reading: Reading = _AS_IT_IS
) -> Iterator[Row]:
    """Yield the rows of an open stream, such as standard input, as `read_rows` does."""
    if ending == ".parquet":
        columns = reading.columns
        return arrow_rows(name, read_arrow(name, stream, columns), columns)
    return read_text(name, ending, stream, reading)


def read_table(name: str, ending: str, stream: BinaryIO, reading: Reading) -> Table:
    """Return the rows of a stream with the columns that are needed, and all as Arrow holds them."""
    if ending != ".parquet":
        return Table(list(read_text(name, ending, stream, reading)))
    arrow = read_arrow(name, stream)
    return Table(list(arrow_rows(name, arrow, reading.columns)), arrow)
