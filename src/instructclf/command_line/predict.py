"""``predict``: rows and a saved classifier → the rows with predictions and probabilities."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from instructclf.classifiers.label_scores import choose_labels, mass_of
from instructclf.command_line.estimators import load_classifier
from instructclf.command_line.files import check_target, read_source, stream_ending, write_target
from instructclf.datasets.labelled import take_text
from instructclf.datasets.rows import Row
from instructclf.exceptions import DataFormatError


def run(options: argparse.Namespace) -> None:
    """Predict the label of each row."""
    check_target(options.output)
    rows = read_source(options.data, stream_ending(options.format, options.data, options.output))
    if not rows:
        msg = f"{options.data} has no rows. Expected the column {options.text_column!r}."
        raise DataFormatError(msg)
    texts = [take_text(row, options.text_column, option="--text-column …") for row in rows]
    classifier = load_classifier(options)
    names = ["prediction", *(f"probability_{label}" for label in classifier.classes_.tolist())]
    if options.min_label_mass is not None:
        names.append("label_mass")
    _check_no_overwriting(rows, names)
    columns = dict(zip(names, _predict(classifier, texts, options.min_label_mass), strict=True))
    predicted = [
        {**row.values, **{name: column[i] for name, column in columns.items()}}
        for i, row in enumerate(rows)
    ]
    ending = stream_ending(options.format, options.output, options.data)
    write_target(options.output, ending, predicted)


def _predict(classifier: Any, texts: list[str], min_label_mass: float | None) -> list[list[Any]]:
    """Return the new columns, all from one pass over the texts."""
    scores = classifier.label_scores(texts)
    labels = choose_labels(classifier.classes_, scores, min_label_mass).tolist()
    masses = [] if min_label_mass is None else [mass_of(scores.log_likelihood).tolist()]
    return [labels, *np.exp(scores.log_probabilities).T.tolist(), *masses]


def _check_no_overwriting(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Raise if the data has a column of the same name as a new one."""
    for row in rows:
        for name in names:
            if name in row.values:
                msg = (
                    f"{row.location} has a column {name!r}, which the result would overwrite. "
                    "Rename or remove it."
                )
                raise DataFormatError(msg)
