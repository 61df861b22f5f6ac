"""``predict``: rows and a saved classifier → the rows with predictions and probabilities."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sklearn.utils._param_validation import InvalidParameterError

from instructclf.command_line.answers import (
    answer,
    answer_or_abstain,
    has_label_mass,
    name_columns,
)
from instructclf.command_line.estimators import load_classifier
from instructclf.command_line.files import (
    read_source,
    stream_ending,
    take_texts,
    try_target,
    write_target,
)
from instructclf.exceptions import DataFormatError

_MASS = "label_mass"


def run(options: argparse.Namespace) -> None:
    """Predict the labels of each row."""
    table = read_source(options.data, options, (options.text_column,), options.output)
    texts = take_texts(options.data, table, options)
    ending = stream_ending(options.format, options.output, options.data)
    try_target(options.output, ending, table)
    classifier = load_classifier(options)
    names = _name(classifier, options)
    _check_names(options.data, table.columns, names)
    columns = dict(zip(names, _predict(classifier, texts, options), strict=True))
    write_target(options.output, ending, table.with_columns(columns))


def _name(classifier: Any, options: argparse.Namespace) -> list[str]:
    """Return the names of the new columns."""
    if options.min_label_mass is not None and not has_label_mass(classifier):
        msg = (
            f"--min-label-mass: a {type(classifier).__name__} has no label mass. Leave the option "
            "out."
        )
        raise InvalidParameterError(msg)
    predictions, probabilities = name_columns(classifier)
    masses = [] if options.min_label_mass is None else [_MASS]
    return [*predictions, *(probabilities if options.probabilities else []), *masses]


def _predict(classifier: Any, texts: Sequence[str], options: argparse.Namespace) -> list[list[Any]]:
    """Return the new columns."""
    if options.min_label_mass is None:
        (predictions, probabilities), masses = answer(classifier, texts), []
    else:
        columns, mass = answer_or_abstain(classifier, texts, options.min_label_mass)
        (predictions, probabilities), masses = columns, [mass]
    return [*predictions, *(probabilities if options.probabilities else []), *masses]


def _check_names(name: str, columns: Sequence[str], new: Sequence[str]) -> None:
    """Raise if a new column has the name of one that the data has, or two of them have the same."""
    if taken := [column for column in new if column in columns]:
        msg = (
            f"{name} has a column {taken[0]!r}, which the result would overwrite. Rename or "
            "remove it."
        )
        raise DataFormatError(msg)
    if repeated := [column for column in new if new.count(column) > 1]:
        msg = (
            f"Two columns would be called {repeated[0]!r}. Rename a question or a label and fit "
            "again, or leave out --probabilities (--no-probabilities)."
        )
        raise DataFormatError(msg)
