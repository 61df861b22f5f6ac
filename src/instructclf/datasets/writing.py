"""Rows → file or stream of jsonl, csv or parquet, as the readers read them."""

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
"""The csv module quotes only cells that contain a character of its line terminator."""


def write_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a file in the format of its ending.

    The rows go to a temporary file, which is then renamed, so that the file is always complete.

    Parameters
    ----------
    path : Path
        The file. An existing file is replaced.
    rows : sequence of mapping
        Values by column.

    Raises
    ------
    DataFormatError
        If the ending is unknown, or parquet has no type for the values of a column.
    MissingExtraError
        If the format is parquet and pyarrow is not installed.
    """
    ending = find_ending(path)
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as stream:
            write_stream(str(path), ending, stream, rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_stream(
    name: str, ending: str, stream: BinaryIO, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write rows to an open stream, such as standard output, as `write_file` does.

    Parameters
    ----------
    name : str
        A name for the stream, used in errors.
    ending : str
        The ending of a file in this format.
    stream : binary file object
        The stream.
    rows : sequence of mapping
        Values by column.
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
    """Return a JSON object, with escapes only if it contains lone surrogates."""
    line = json.dumps(values, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(values, default=str)
    return line


def _as_csv(columns: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return a row without line end; cells with line ends of any system are quoted."""
    line = io.StringIO(newline="")
    csv.DictWriter(line, columns, lineterminator=_QUOTED_ENDS).writerow(values)
    return line.getvalue().removesuffix(_QUOTED_ENDS)


def _without_nan(value: Any) -> Any:
    """Replace floats that JSON cannot represent by ``None``."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(
    name: str, stream: BinaryIO, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    parquet = import_data_extra("pyarrow.parquet", needed_for=f"Writing {name}")
    pyarrow = import_data_extra("pyarrow", needed_for=f"Writing {name}")
    try:
        table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    except (ValueError, TypeError) as error:  # pyarrow's errors about the content are one of these
        msg = f"{name} cannot be written as parquet: {error} Write jsonl instead."
        raise DataFormatError(msg) from error
    parquet.write_table(table, stream)
