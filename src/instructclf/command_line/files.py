"""Files and standard streams → rows, and back, for all commands."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instructclf.datasets.labelled import LabelledTexts, take_labelled
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


def read_labelled_source(path: str, options: argparse.Namespace, other: str) -> LabelledTexts:
    """Return the texts and labels of a file or of standard input, as `read_source` does."""
    columns = options.text_column, options.label_column
    return take_labelled(
        _INPUT if path == STREAM else path,
        read_source(path, options, columns, other).rows,
        *columns,
        options.label_names,
        options=("--text-column …", "--label-column …"),
    )


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


def read_definitions(
    path: str | None, assignments: Sequence[tuple[str, str]]
) -> dict[str, str] | None:
    """Return the definitions of labels from a JSON file and from the command line.

    Raises
    ------
    DataFormatError
        If the file does not hold such an object, or a label is defined twice.
    """
    definitions = {} if path is None else _read_object(expand(path))
    for label, sentence in assignments:
        if label in definitions:
            msg = f"The label {label!r} is defined twice. Leave out one of the definitions."
            raise DataFormatError(msg)
        definitions[label] = sentence
    return definitions or None


def _read_object(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        msg = f"{path} is not valid JSON in UTF-8: {error}."
        raise DataFormatError(msg) from error
    if not isinstance(content, dict) or not all(isinstance(one, str) for one in content.values()):
        msg = (
            f"{path} must hold a JSON object of labels and sentences, such as "
            '{"negative": "The reviewer is dissatisfied."}.'
        )
        raise DataFormatError(msg)
    return content
