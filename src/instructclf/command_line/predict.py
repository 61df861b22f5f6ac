"""``predict``: rows and a saved classifier → the rows with predictions and probabilities."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from instructclf.classifiers.chunks import score_in_chunks
from instructclf.classifiers.predicting import choose_labels, mass_of
from instructclf.command_line.files import check_target, read_source, stream_ending, write_target
from instructclf.command_line.loading import load_named
from instructclf.datasets.labelled import take_text
from instructclf.datasets.rows import Row
from instructclf.exceptions import DataFormatError

_PREDICTION, _PROBABILITY, _MASS = "prediction", "probability_{}", "label_mass"


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
    columns = [_PREDICTION, *(_PROBABILITY.format(label) for label in classifier.classes_.tolist())]
    if options.min_label_mass is not None:
        columns.append(_MASS)
    _check_free(rows, columns)
    found = _predict(classifier, texts, options)
    predicted = [
        {**row.values, **dict(zip(columns, own, strict=True))}
        for row, own in zip(rows, found, strict=True)
    ]
    ending = stream_ending(options.format, options.output, options.data)
    write_target(options.output, ending, predicted)


def _predict(
    classifier: Any, texts: list[str], options: argparse.Namespace
) -> Iterator[tuple[Any, ...]]:
    """Return what stands in the new columns of each row: in one pass, whatever is asked for."""
    if options.chunks is None:
        scores = classifier._score(texts)  # noqa: SLF001
    else:
        scores = score_in_chunks(classifier, texts, options.chunks, chunk_size=options.chunk_size)
    labels = choose_labels(classifier.classes_, scores, options.min_label_mass).tolist()
    probabilities = np.exp(scores.log_probabilities).T.tolist()
    masses = [] if options.min_label_mass is None else [mass_of(scores.log_likelihood).tolist()]
    return zip(labels, *probabilities, *masses, strict=True)


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
