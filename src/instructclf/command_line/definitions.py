"""``--define`` and ``--definitions`` → what labels mean, of one question or of several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instructclf.datasets.answered import AnswerColumns, AnsweredTexts
from instructclf.exceptions import DataFormatError
from instructclf.inputs.paths import expand
from instructclf.inputs.spelling import did_you_mean

Sentences = dict[str, str]
"""The definition of each label."""
_EXAMPLE = '{"negative": "The reviewer is dissatisfied."}'
_NESTED_EXAMPLE = '{"team": {"billing": "Invoices and payments."}, "urgent": "Do it today."}'
_BETWEEN = ":"
"""What stands between a column and its label in ``--define``."""


def read_definitions(path: str | None, assignments: Sequence[tuple[str, str]]) -> Sentences | None:
    """Return the definitions of labels from a JSON file and from the command line.

    Raises
    ------
    DataFormatError
        If the file does not hold such an object, or a label is defined twice.
    """
    definitions = {} if path is None else _read_object(expand(path))
    if path is not None and not _are_sentences(definitions):
        msg = f"{path} must hold a JSON object of labels and sentences, such as {_EXAMPLE}."
        raise DataFormatError(msg)
    for label, sentence in assignments:
        _add(definitions, label, sentence, f"The label {label!r}")
    return definitions or None


def read_column_definitions(
    path: str | None, assignments: Sequence[tuple[str, str]], columns: Sequence[str]
) -> dict[str, str | Sentences]:
    """Return the definitions of several questions, by column.

    Those of a column are sentences by label, or one sentence that says what 1 means.

    Raises
    ------
    DataFormatError
        If the file does not hold such an object, there is no such column, or something is defined
        twice.
    """
    definitions = {} if path is None else _read_object(expand(path))
    if not all(isinstance(own, str) or _are_sentences(own) for own in definitions.values()):
        msg = (
            f"{path} must hold a JSON object of columns, each with sentences by label, or with one "
            f"sentence if it holds 0 and 1, such as {_NESTED_EXAMPLE}."
        )
        raise DataFormatError(msg)
    for name, sentence in assignments:
        column, sign, label = (part.strip() for part in name.partition(_BETWEEN))
        if not sign:
            _add(definitions, column, sentence, f"The column {column!r}")
            continue
        own = definitions.setdefault(column, {})
        if isinstance(own, str):
            msg = f"The column {column!r} is defined as a whole, and so is {label!r} in it. Leave "
            msg += "out one of the definitions."
            raise DataFormatError(msg)
        _add(own, label, sentence, f"The label {label!r} of {column!r}")
    _check_columns(definitions, columns)
    return definitions


def by_question(
    definitions: Mapping[str, str | Sentences], columns: AnswerColumns, rows: AnsweredTexts
) -> dict[str, str | dict[Any, str]] | None:
    """Return the definitions of columns as ``label_definitions`` of the questions that they ask."""
    found: dict[str, str | dict[Any, str]] = {}
    for column, own in definitions.items():
        if isinstance(own, str):
            found[column] = own
        elif column in columns.lists:
            found |= own
        else:
            found[column] = with_labels_of(own, rows.columns[column])
    return found or None


def with_labels_of(given: Mapping[str, Any], labels: Sequence[Any]) -> dict[Any, Any]:
    """Return a mapping with the labels 0 and 1, of which JSON makes texts, as they are in a column.

    Its other keys stay as they are.
    """
    by_text = {str(label): label for label in (0, 1) if isinstance(labels[0], int)}
    return {by_text.get(name, name): value for name, value in given.items()}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        msg = f"{path} is not valid JSON in UTF-8: {error}."
        raise DataFormatError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} must hold a JSON object, such as {_EXAMPLE}."
        raise DataFormatError(msg)
    return content


def _are_sentences(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(one, str) for one in content.values())


def _add(definitions: dict[str, Any], name: str, sentence: str, what: str) -> None:
    if name in definitions:
        msg = f"{what} is defined twice. Leave out one of the definitions."
        raise DataFormatError(msg)
    definitions[name] = sentence


def _check_columns(definitions: Mapping[str, Any], columns: Sequence[str]) -> None:
    unknown = [name for name in definitions if name not in columns]
    if unknown:
        msg = (
            f"{unknown[0]!r} is defined, which is no column of labels. With several questions, "
            f"definitions are those of a column: {', '.join(map(repr, columns))}."
            f"{did_you_mean(unknown[:1], columns)}"
        )
        raise DataFormatError(msg)
