"""File or stream → rows: jsonl, csv and parquet, one mapping of column to value each.

Every row carries the place it came from, so that whatever is wrong with it can be found.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from instructclf.datasets.class_names import find_class_names, name_classes
from instructclf.datasets.extras import import_data_extra
from instructclf.exceptions import DataFormatError

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
"""The file name endings that can be read."""
_LONGEST_CELL = 2**31 - 1
"""Characters. The csv module takes 131,072 unless told, and a text may be a book."""


class Row(NamedTuple):
    """One row of a file and where it stands there."""

    place: str
    values: dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, in their order.

    Parameters
    ----------
    path : Path
        A file with one of the ``ENDINGS``.

    Yields
    ------
    Row
        Place and values of each row.

    Raises
    ------
    DataFormatError
        If the ending is unknown or the content is not what the ending says.
    MissingExtraError
        If a parquet file is to be read and pyarrow is not installed.
    """
    ending = find_ending(path)
    with path.open("rb") as stream:
        yield from read_stream(str(path), ending, stream)


def find_ending(path: Path) -> str:
    """Return which of the ``ENDINGS`` a file has.

    Parameters
    ----------
    path : Path
        The file, which need not exist.

    Returns
    -------
    str
        The ending, in lower case.

    Raises
    ------
    DataFormatError
        If it has none of them.
    """
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return ending
    msg = f"{path} does not end in one of {', '.join(ENDINGS)}. Convert or rename the file."
    raise DataFormatError(msg)


def read_stream(name: str, ending: str, stream: BinaryIO) -> Iterator[Row]:
    """Yield the rows of an open stream, such as standard input.

    Parameters
    ----------
    name : str
        What to call it where something is wrong with it.
    ending : str
        One of the ``ENDINGS``: what a file with this content would end in.
    stream : binary file object
        The content.

    Yields
    ------
    Row
        Place and values of each row.

    Raises
    ------
    DataFormatError
        If the content is not what the ending says.
    MissingExtraError
        If parquet is to be read and pyarrow is not installed.
    """
    if ending == ".parquet":
        yield from _read_parquet(name, stream)
    else:
        parse = _parse_jsonl if ending.startswith(".jsonl") else _parse_csv
        yield from _read_text(name, stream, parse, is_compressed=ending.endswith(".gz"))


def _read_text(
    name: str,
    stream: BinaryIO,
    parse: Callable[[str, TextIO], Iterator[Row]],
    *,
    is_compressed: bool,
) -> Iterator[Row]:
    """Yield the rows of a text file, compressed or not."""
    content = gzip.GzipFile(fileobj=stream) if is_compressed else stream
    # newline="" leaves line ends inside quoted cells alone; utf-8-sig drops the mark that
    # spreadsheets put first.
    lines = io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
    try:
        yield from parse(name, lines)
    except UnicodeDecodeError as error:
        msg = f"{name} is not UTF-8 text: {error}. Save it with the encoding UTF-8."
        raise DataFormatError(msg) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        msg = f"{name} is not a complete gzip file: {error}. Write or copy it again."
        raise DataFormatError(msg) from error
    finally:
        lines.detach()  # whoever opened the stream closes it


def _parse_jsonl(name: str, lines: TextIO) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"{place} is not valid JSON: {error.msg} at column {error.colno}."
            raise DataFormatError(msg) from error
        if not isinstance(values, dict):
            msg = f"{place} is a JSON {type(values).__name__}, expected an object with columns."
            raise DataFormatError(msg)
        yield Row(place, values)


def _parse_csv(name: str, lines: TextIO) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))  # for the whole process
    reader = csv.DictReader(lines, strict=True)
    try:
        _check_header(name, reader.fieldnames or ())
        for values in reader:
            place = f"{name}:{reader.line_num}"
            _check_cells(place, values)
            yield Row(place, values)
    except csv.Error as error:
        msg = f"{name}:{reader.line_num} is not valid CSV: {error}."
        raise DataFormatError(msg) from error


def _check_header(name: str, columns: Sequence[str]) -> None:
    """Raise if two columns have one name: the first would be lost."""
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        msg = f"{name} has several columns named {repeated[0]!r}. Rename all but one of them."
        raise DataFormatError(msg)


def _check_cells(place: str, values: dict[Any, Any]) -> None:
    """Raise if the row has more or fewer cells than the header."""
    n_columns = sum(column is not None for column in values)
    if None in values:
        n_cells = n_columns + len(values[None])
    else:
        n_cells = sum(value is not None for value in values.values())
    if n_cells != n_columns:
        msg = (
            f"{place} has {n_cells} cells and the header has {n_columns}. Put a cell with a comma "
            'in it between double quotes ("…").'
        )
        raise DataFormatError(msg)


def _read_parquet(name: str, stream: BinaryIO) -> Iterator[Row]:
    parquet = import_data_extra("pyarrow.parquet", needed_for=f"Reading {name}")
    file = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        table = parquet.ParquetFile(file)
    except ValueError as error:  # pyarrow's own errors of content derive from it
        msg = f"{name} is not a parquet file: {error}"
        raise DataFormatError(msg) from error
    names = find_class_names(table.schema_arrow.metadata)
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in table.iter_batches())
    for number, values in enumerate(rows, start=1):
        place = f"{name}, row {number}"
        yield Row(place, name_classes(place, values, names))
