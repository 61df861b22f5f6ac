"""``predict``: rows and a saved classifier → the rows with predictions and probabilities."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.label_scores import choose_labels, mass_of
from instructclf.command_line.estimators import load_classifier
from instructclf.command_line.files import read_source, stream_ending, try_target, write_target
from instructclf.datasets.labelled import take_text
from instructclf.exceptions import DataFormatError


def run(options: argparse.Namespace) -> None:
    """Predict the label of each row."""
    table = read_source(options.data, options, (options.text_column,), options.output)
    if not table.rows:
        msg = f"{options.data} has no rows. Expected the column {options.text_column!r}."
        raise DataFormatError(msg)
    texts = [take_text(row, options.text_column, option="--text-column …") for row in table.rows]
    ending = stream_ending(options.format, options.output, options.data)
    try_target(options.output, ending, table)
    classifier = load_classifier(options)
    names = ["prediction", *(f"probability_{label}" for label in classifier.classes_.tolist())]
    if options.min_label_mass is not None:
        names.append("label_mass")
    _check_no_overwriting(options.data, table.columns, names)
    columns = dict(zip(names, _predict(classifier, texts, options.min_label_mass), strict=True))
    write_target(options.output, ending, table.with_columns(columns))


def _predict(classifier: Any, texts: list[str], min_label_mass: float | None) -> list[list[Any]]:
    """Return the new columns, all from one pass over the texts."""
    if not hasattr(classifier, "label_scores"):
        if min_label_mass is not None:
            msg = (
                f"--min-label-mass: a {type(classifier).__name__} has no label mass. Leave the "
                "option out."
            )
            raise InvalidParameterError(msg)
        probabilities = classifier.predict_proba(texts)
        best = probabilities.argmax(axis=1)
        return [classifier.classes_[best].tolist(), *probabilities.T.tolist()]
    scores = classifier.label_scores(texts)
    labels = choose_labels(classifier.classes_, scores, min_label_mass).tolist()
    masses = [] if min_label_mass is None else [mass_of(scores.log_likelihood).tolist()]
    return [labels, *np.exp(scores.log_probabilities).T.tolist(), *masses]


def _check_no_overwriting(name: str, columns: Sequence[str], new: Sequence[str]) -> None:
    """Raise if the data has a column of the same name as a new one."""
    taken = [column for column in new if column in columns]
    if taken:
        msg = (
            f"{name} has a column {taken[0]!r}, which the result would overwrite. Rename or "
            "remove it."
        )
        raise DataFormatError(msg)
