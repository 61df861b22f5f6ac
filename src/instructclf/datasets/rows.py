"""File or stream of jsonl, csv or parquet → rows, each a mapping of columns to values.

Every row carries its location, so that errors can name it.
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
"""The supported endings of file names."""
_LONGEST_CELL = 2**31 - 1
"""Characters. The default of the csv module is 131,072, but a text may be a book."""


class Row(NamedTuple):
    """One row and its location in the file."""

    location: str
    values: dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file in order.

    Parameters
    ----------
    path : Path
        A file with one of the ``ENDINGS``.

    Yields
    ------
    Row
        The location and the values of each row.

    Raises
    ------
    DataFormatError
        If the ending is unknown, or the content does not match it.
    MissingExtraError
        If the file is parquet and pyarrow is not installed.
    """
    ending = find_ending(path)
    with path.open("rb") as stream:
        yield from read_stream(str(path), ending, stream)


def find_ending(path: Path) -> str:
    """Return the ending of a file name, one of the ``ENDINGS``.

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
        If the name has none of them.
    """
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return ending
    msg = f"{path} does not end in one of {', '.join(ENDINGS)}. Convert or rename the file."
    raise DataFormatError(msg)


def read_stream(name: str, ending: str, stream: BinaryIO) -> Iterator[Row]:
    """Yield the rows of an open stream, such as standard input, as `read_rows` does.

    Parameters
    ----------
    name : str
        A name for the stream, used in errors.
    ending : str
        One of the ``ENDINGS``, which says the format.
    stream : binary file object
        The content.
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
    # newline="" keeps line ends inside quoted cells; utf-8-sig drops the byte order mark of
    # spreadsheets.
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
        lines.detach()  # the caller closes the stream


def _parse_jsonl(name: str, lines: TextIO) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        location = f"{name}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"{location} is not valid JSON: {error.msg} at column {error.colno}."
            raise DataFormatError(msg) from error
        if not isinstance(values, dict):
            msg = f"{location} is a JSON {type(values).__name__}, expected an object with columns."
            raise DataFormatError(msg)
        yield Row(location, values)


def _parse_csv(name: str, lines: TextIO) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))  # for the whole process
    reader = csv.DictReader(lines, strict=True)
    try:
        _check_header(name, reader.fieldnames or ())
        for values in reader:
            location = f"{name}:{reader.line_num}"
            _check_cells(location, values)
            yield Row(location, values)
    except csv.Error as error:
        msg = f"{name}:{reader.line_num} is not valid CSV: {error}."
        raise DataFormatError(msg) from error


def _check_header(name: str, columns: Sequence[str]) -> None:
    """Raise if two columns have the same name, since only the last would be read."""
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        msg = f"{name} has several columns named {repeated[0]!r}. Rename all but one of them."
        raise DataFormatError(msg)


def _check_cells(location: str, values: dict[Any, Any]) -> None:
    """Raise if the row has more or fewer cells than the header."""
    n_columns = sum(column is not None for column in values)
    if None in values:
        n_cells = n_columns + len(values[None])
    else:
        n_cells = sum(value is not None for value in values.values())
    if n_cells != n_columns:
        msg = (
            f"{location} has {n_cells} cells and the header has {n_columns}. Put double quotes "
            '("…") around a cell that contains a comma.'
        )
        raise DataFormatError(msg)


def _read_parquet(name: str, stream: BinaryIO) -> Iterator[Row]:
    parquet = import_data_extra("pyarrow.parquet", needed_for=f"Reading {name}")
    file = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        table = parquet.ParquetFile(file)
    except ValueError as error:  # pyarrow's errors about the content are ValueErrors
        msg = f"{name} is not a parquet file: {error}"
        raise DataFormatError(msg) from error
    names = find_class_names(table.schema_arrow.metadata)
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in table.iter_batches())
    for number, values in enumerate(rows, start=1):
        location = f"{name}, row {number}"
        yield Row(location, name_classes(location, values, names))
