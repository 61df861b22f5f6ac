"""File → rows: jsonl, csv and parquet, one mapping of column to value each.

Every row carries the place it came from, so that whatever is wrong with it can be found.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from instructclf.datasets.extras import import_data_extra
from instructclf.exceptions import DataFormatError

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
"""The file name endings that can be read."""


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
    name = path.name.lower()
    if name.endswith(".parquet"):
        yield from _read_parquet(path)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_text(path, _parse_jsonl)
    elif name.endswith((".csv", ".csv.gz")):
        yield from _read_text(path, _parse_csv)
    else:
        msg = f"{path} does not end in one of {', '.join(ENDINGS)}. Convert or rename the file."
        raise DataFormatError(msg)


def _read_text(path: Path, parse: Callable[[Path, TextIO], Iterator[Row]]) -> Iterator[Row]:
    """Yield the rows of a text file, compressed or not."""
    is_compressed = path.name.lower().endswith(".gz")
    # newline="" leaves line ends inside quoted cells alone; utf-8-sig drops the mark that
    # spreadsheets put first.
    with (
        gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        if is_compressed
        else path.open(encoding="utf-8-sig", newline="")
    ) as lines:
        try:
            yield from parse(path, lines)
        except UnicodeDecodeError as error:
            msg = f"{path} is not UTF-8 text: {error}. Save it with the encoding UTF-8."
            raise DataFormatError(msg) from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            msg = f"{path} is not a complete gzip file: {error}. Write or copy it again."
            raise DataFormatError(msg) from error


def _parse_jsonl(path: Path, lines: TextIO) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"{place} is not valid JSON: {error.msg} at column {error.colno}."
            raise DataFormatError(msg) from error
        if not isinstance(values, dict):
            msg = f"{place} is a JSON {type(values).__name__}, expected an object with columns."
            raise DataFormatError(msg)
        yield Row(place, values)


def _parse_csv(path: Path, lines: TextIO) -> Iterator[Row]:
    reader = csv.DictReader(lines, strict=True)
    try:
        for values in reader:
            place = f"{path}:{reader.line_num}"
            _check_cells(place, values)
            yield Row(place, values)
    except csv.Error as error:
        msg = f"{path}:{reader.line_num} is not valid CSV: {error}."
        raise DataFormatError(msg) from error


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


def _read_parquet(path: Path) -> Iterator[Row]:
    parquet = import_data_extra("pyarrow.parquet", needed_for=f"Reading {path}")
    with path.open("rb") as file:
        try:
            batches = parquet.ParquetFile(file).iter_batches()
        except ValueError as error:  # pyarrow's own errors of content derive from it
            msg = f"{path} is not a parquet file: {error}"
            raise DataFormatError(msg) from error
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, values in enumerate(rows, start=1):
            yield Row(f"{path}, row {number}", values)
