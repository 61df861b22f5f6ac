"""Files and standard streams → rows, and back, for all commands."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from instructclf.datasets.answered import AnswerColumns, AnsweredTexts, take_answered
from instructclf.datasets.labelled import LabelledTexts, take_labelled, take_text
from instructclf.datasets.rows import find_ending, read_table
from instructclf.datasets.tables import Reading, Table
from instructclf.datasets.writing import write_file, write_stream
from instructclf.exceptions import DataFormatError
from instructclf.inputs.paths import expand

STREAM = "-"
_INPUT, _OUTPUT = "<standard input>", "<standard output>"


def read_source(
    path: str, options: argparse.Namespace, columns: Sequence[str], *others: str
) -> Table:
    """Return the rows of a file or, for ``-``, of standard input, with the columns needed.

    Other files decide the format of standard input unless ``--format`` does.
    """
    reading = Reading(columns, options.delimiter, options.encoding)
    if path == STREAM:
        ending = stream_ending(options.format, *others)
        return read_table(_INPUT, ending, sys.stdin.buffer, reading)
    ending = find_ending(expand(path))
    with expand(path).open("rb") as stream:
        return read_table(path, ending, stream, reading)


def take_texts(path: str, table: Table, options: argparse.Namespace) -> list[str]:
    """Return the texts of a table that was read from this file.

    Raises
    ------
    DataFormatError
        If there are no rows, or one has no text.
    """
    if not table.rows:
        msg = f"{path} has no rows. Expected the column {options.text_column!r}."
        raise DataFormatError(msg)
    return [take_text(row, options.text_column, option="--text-column …") for row in table.rows]


def read_labelled_source(path: str, options: argparse.Namespace, other: str) -> LabelledTexts:
    """Return the texts and labels of a file or of standard input, as `read_source` does.

    Raises
    ------
    DataFormatError
        If there are several label columns, or the rows cannot be read.
    """
    if len(options.label_column) > 1:
        names = ", ".join(options.label_column)
        msg = f"{options.command} takes one label column. Got {names}: take one after the other."
        raise DataFormatError(msg)
    columns = options.text_column, (options.label_column or ["label"])[0]
    return take_labelled(
        _INPUT if path == STREAM else path,
        read_source(path, options, columns, other).rows,
        *columns,
        options.label_names,
        options=("--text-column …", "--label-column …"),
    )


def read_answered_source(
    path: str,
    options: argparse.Namespace,
    columns: AnswerColumns,
    other: str,
    known: AnsweredTexts | None = None,
) -> AnsweredTexts:
    """Return texts and the answers to several questions. ``known`` are rows with the same ones."""
    needed = options.text_column, *columns.names
    rows = read_source(path, options, needed, other).rows
    name = _INPUT if path == STREAM else path
    return take_answered(name, rows, options.text_column, columns, known)


def write_target(path: str, ending: str, data: Table | Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a file or, for ``-``, to standard output with the format of an ending."""
    if path == STREAM:
        write_stream(_OUTPUT, ending, sys.stdout.buffer, data)
    else:
        write_file(expand(path), data)


def try_target(path: str, ending: str, data: Table | Sequence[Mapping[str, Any]]) -> None:
    """Raise, before anything is computed, if rows cannot be written."""
    if path == STREAM:
        write_stream(_OUTPUT, ending, io.BytesIO(), data)
        return
    find_ending(expand(path))
    folder = expand(path).parent
    if not folder.is_dir():
        msg = f"There is no folder {str(folder)!r} to write {expand(path).name} in. Make it first."
        raise DataFormatError(msg)
    if expand(path).is_dir():
        msg = f"{path} is a folder. Name a file to write to."
        raise DataFormatError(msg)
    write_file(expand(path), data, is_trial=True)


def stream_ending(name: str | None, *others: str) -> str:
    """Return the ending for the format of a standard stream.

    Unless ``--format`` names it, the first of other files decides, else it is csv.
    """
    if name is not None:
        return f".{name}"
    files = [expand(path) for path in others if path != STREAM]
    return find_ending(files[0]) if files else ".csv"
