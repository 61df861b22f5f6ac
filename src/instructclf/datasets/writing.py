"""Rows → file or stream of JSON, csv or parquet, as the readers read them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from instructclf.datasets.arrow_files import write_arrow
from instructclf.datasets.rows import find_ending
from instructclf.datasets.tables import Row, Table
from instructclf.exceptions import DataFormatError

_QUOTED_ENDS = "\r\n"
"""The csv module quotes only cells that contain a character of its line terminator."""
_CONTENT_ERRORS = (ArithmeticError, NotImplementedError, TypeError, ValueError)
"""Errors of pyarrow about values are of these kinds, as are those of encodings."""


def write_file(
    path: Path, data: Table | Sequence[Mapping[str, Any]], *, is_trial: bool = False
) -> None:
    """Write rows to a file in the format of its ending.

    The rows go to a temporary file, which is then renamed, so that the file is always complete. A
    trial only finds out if it can be written.

    Raises
    ------
    DataFormatError
        If the ending is unknown, or the format has no way to write a value.
    MissingExtraError
        If the format is parquet and pyarrow is not installed.
    """
    ending = find_ending(path)
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as stream:
            write_stream(str(path), ending, stream, data)
        if not is_trial:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_stream(
    name: str, ending: str, stream: BinaryIO, data: Table | Sequence[Mapping[str, Any]]
) -> None:
    """Write rows to an open stream, such as standard output, as `write_file` does."""
    table = data if isinstance(data, Table) else Table([Row("", dict(row)) for row in data])
    try:
        if ending == ".parquet":
            write_arrow(name, stream, table)
        elif ending.endswith(".gz"):
            with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0) as compressed:
                compressed.write(_encode(ending, table))
        else:
            stream.write(_encode(ending, table))
    except _CONTENT_ERRORS as error:
        kind = ending.split(".")[1]
        other = "parquet" if table.arrow is not None else "jsonl"
        problem = " ".join(str(error).split()).rstrip(" .")
        msg = f"{name} cannot be written as {kind}: {problem}. Write {other} instead."
        raise DataFormatError(msg) from error


def _encode(ending: str, table: Table) -> bytes:
    if ending.startswith(".jsonl"):
        text = "".join(f"{line}\n" for line in table.lines)
    elif ending.startswith(".json"):
        text = "[\n{}\n]\n".format(",\n".join(table.lines))
    else:
        text = _as_csv(table, "\t" if ending.startswith(".tsv") else ",")
    return text.encode()


def _as_csv(table: Table, delimiter: str) -> str:
    """Return lines in which cells with line ends of any system are quoted."""
    lines = []
    columns = table.columns
    for values in (dict(zip(columns, columns, strict=True)), *table.cells):
        line = io.StringIO(newline="")
        writer = csv.DictWriter(line, columns, lineterminator=_QUOTED_ENDS, delimiter=delimiter)
        writer.writerow({name: _as_cell(value) for name, value in values.items()})
        lines.append(f"{line.getvalue().removesuffix(_QUOTED_ENDS)}\n")
    return "".join(lines)


def _as_cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
