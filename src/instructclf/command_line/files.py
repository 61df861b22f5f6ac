"""Files and standard streams → rows, and back: what all commands read and write alike."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instructclf.datasets.labelled import LabelledTexts, take_labelled
from instructclf.datasets.rows import Row, find_ending, read_rows, read_stream
from instructclf.datasets.writing import write_file, write_stream
from instructclf.exceptions import DataFormatError

STREAM = "-"
_INPUT, _OUTPUT = "<standard input>", "<standard output>"


def read_source(place: str, ending: str) -> list[Row]:
    """Return the rows of a file, or of standard input.

    Parameters
    ----------
    place : str
        A file, or ``-``.
    ending : str
        The format of standard input.

    Returns
    -------
    list of Row
        The rows.
    """
    if place == STREAM:
        return list(read_stream(_INPUT, ending, sys.stdin.buffer))
    return list(read_rows(Path(place)))


def read_labelled_source(place: str, options: argparse.Namespace, other: str) -> LabelledTexts:
    """Return the texts and labels of a file, or of standard input.

    Parameters
    ----------
    place : str
        A file, or ``-``.
    options : argparse.Namespace
        The names of the columns and of the classes.
    other : str
        Another file, in whose format standard input is, unless something else is said.

    Returns
    -------
    LabelledTexts
        Texts and labels.
    """
    rows = read_source(place, stream_ending(options.format, other))
    return take_labelled(
        _INPUT if place == STREAM else place,
        rows,
        options.text_column,
        options.label_column,
        options.label_names,
        options=("--text-column …", "--label-column …"),
    )


def write_target(place: str, ending: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows into a file, or to standard output.

    Parameters
    ----------
    place : str
        A file, or ``-``.
    ending : str
        The format of standard output.
    rows : sequence of mapping
        Values by column.
    """
    if place == STREAM:
        write_stream(_OUTPUT, ending, sys.stdout.buffer, rows)
    else:
        write_file(Path(place), rows)


def check_target(place: str) -> None:
    """Raise before anything is computed if it could not be written there."""
    if place == STREAM:
        return
    find_ending(Path(place))
    folder = Path(place).parent
    if not folder.is_dir():
        msg = f"There is no folder {str(folder)!r} to write {Path(place).name} in. Make it first."
        raise DataFormatError(msg)


def stream_ending(name: str | None, *others: str) -> str:
    """Return the ending of the format of a standard stream.

    Parameters
    ----------
    name : str or None
        The format that was asked for.
    *others : str
        Files and ``-``. Unless a format was asked for, the first file's counts.

    Returns
    -------
    str
        The ending.
    """
    if name is not None:
        return f".{name}"
    files = [Path(place) for place in others if place != STREAM]
    return find_ending(files[0]) if files else ".csv"


def read_definitions(
    path: str | None, assignments: Sequence[tuple[str, str]]
) -> dict[str, str] | None:
    """Return what labels mean, of a JSON file and of the command line.

    Parameters
    ----------
    path : str or None
        A file with a JSON object of labels and sentences.
    assignments : sequence of (str, str)
        Labels and sentences.

    Returns
    -------
    dict of str to str or None
        The sentences by label. ``None`` if nothing is defined.

    Raises
    ------
    DataFormatError
        If the file holds something else, or a label is defined twice.
    """
    definitions = {} if path is None else _read_object(Path(path))
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
        msg = f"{path} is not valid JSON: {error}."
        raise DataFormatError(msg) from error
    if not isinstance(content, dict) or not all(isinstance(one, str) for one in content.values()):
        msg = (
            f"{path} must hold a JSON object of labels and sentences, such as "
            '{"negative": "The reviewer is dissatisfied."}.'
        )
        raise DataFormatError(msg)
    return content
