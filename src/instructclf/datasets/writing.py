"""Rows → file or stream: jsonl, csv and parquet, whatever the readers read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from instructclf.datasets.extras import import_data_extra
from instructclf.datasets.rows import find_ending
from instructclf.exceptions import DataFormatError

_QUOTED_ENDS = "\r\n"
"""Python quotes a cell that has a character of this in it, and no other end of a line."""


def write_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows into a file, in the format that its ending says.

    It is written beside its place and then renamed, so that a file that is there is whole.

    Parameters
    ----------
    path : Path
        The file. One that is there is replaced.
    rows : sequence of mapping
        Values by column.

    Raises
    ------
    DataFormatError
        If the ending is unknown, or parquet has no type for the values of a column.
    MissingExtraError
        If parquet is to be written and pyarrow is not installed.
    """
    ending = find_ending(path)
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as stream:
            write_stream(str(path), ending, stream, rows)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_stream(
    name: str, ending: str, stream: BinaryIO, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write rows into an open stream, such as standard output.

    Parameters
    ----------
    name : str
        What to call it where something is wrong.
    ending : str
        What a file with this content would end in.
    stream : binary file object
        Where to.
    rows : sequence of mapping
        Values by column.

    Raises
    ------
    DataFormatError
        If parquet has no type for the values of a column.
    MissingExtraError
        If parquet is to be written and pyarrow is not installed.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if ending == ".parquet":
        _write_parquet(name, stream, columns, rows)
    elif ending.endswith(".gz"):
        with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0) as compressed:
            compressed.write(_encode(ending, columns, rows))
    else:
        stream.write(_encode(ending, columns, rows))


def _encode(ending: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    lines = io.StringIO(newline="")
    if ending.startswith(".jsonl"):
        for row in rows:
            lines.write(f"{_as_json({name: _without_nan(value) for name, value in row.items()})}\n")
    else:
        for values in (dict(zip(columns, columns, strict=True)), *rows):
            lines.write(f"{_as_csv(columns, values)}\n")
    return lines.getvalue().encode()


def _as_json(values: dict[str, Any]) -> str:
    """Return an object in plain letters, or in escapes where it has halves of characters."""
    line = json.dumps(values, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(values, default=str)
    return line


def _as_csv(columns: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return a row without its end. Ends of lines of all systems within cells are quoted."""
    line = io.StringIO(newline="")
    csv.DictWriter(line, columns, lineterminator=_QUOTED_ENDS).writerow(values)
    return line.getvalue().removesuffix(_QUOTED_ENDS)


def _without_nan(value: Any) -> Any:
    """Return ``None`` for what JSON has no number for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(
    name: str, stream: BinaryIO, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    parquet = import_data_extra("pyarrow.parquet", needed_for=f"Writing {name}")
    pyarrow = import_data_extra("pyarrow", needed_for=f"Writing {name}")
    try:
        table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    except (ValueError, TypeError) as error:  # pyarrow's own errors of content derive from these
        msg = f"{name} cannot be written as parquet: {error} Write jsonl instead."
        raise DataFormatError(msg) from error
    parquet.write_table(table, stream)
