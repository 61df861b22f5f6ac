"""``predict``: rows and a saved classifier → the rows with predictions and probabilities."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from instructclf.command_line.files import check_target, read_source, stream_ending, write_target
from instructclf.command_line.loading import load_named
from instructclf.datasets.labelled import take_text
from instructclf.datasets.rows import Row
from instructclf.exceptions import DataFormatError

_PREDICTION, _PROBABILITY = "prediction", "probability_{}"


def run(options: argparse.Namespace) -> None:
    """Predict the label of each row.

    Parameters
    ----------
    options : argparse.Namespace
        What the command line says.
    """
    check_target(options.output)
    rows = read_source(options.data, stream_ending(options.format, options.data, options.output))
    if not rows:
        msg = f"{options.data} has no rows. Expected the column {options.text_column!r}."
        raise DataFormatError(msg)
    texts = [take_text(row, options.text_column, option="--text-column …") for row in rows]
    classifier = load_named(options)
    names = [_PROBABILITY.format(label) for label in classifier.classes_.tolist()]
    _check_free(rows, [_PREDICTION, *names])
    probabilities = classifier.predict_proba(texts)
    labels = classifier.classes_[probabilities.argmax(axis=1)]
    predicted = [
        {**row.values, _PREDICTION: label, **dict(zip(names, own, strict=True))}
        for row, label, own in zip(rows, labels.tolist(), probabilities.tolist(), strict=True)
    ]
    ending = stream_ending(options.format, options.output, options.data)
    write_target(options.output, ending, predicted)


def _check_free(rows: Sequence[Row], columns: Sequence[Any]) -> None:
    """Raise if a column of the data would be lost."""
    for row in rows:
        for column in columns:
            if column in row.values:
                msg = (
                    f"{row.place} has a column {column!r}, which would be lost: that is where the "
                    "result goes. Rename it or leave it out."
                )
                raise DataFormatError(msg)
