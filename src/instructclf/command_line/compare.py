"""``compare``: labelled rows → a table of approaches that learned from the same few rows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.command_line.arguments import APPROACHES
from instructclf.command_line.estimators import CLASSES, make_classifier
from instructclf.command_line.files import (
    STREAM,
    read_labelled_source,
    try_target,
    write_target,
)
from instructclf.command_line.parameters import OTHER_OPTIONS, has_parameter
from instructclf.evaluation import compare
from instructclf.exceptions import DataFormatError

_NAMES = {"svm": "TF-IDF + LinearSVC", "prompting": "prompting", "tuning": "instruction tuning"}
_OTHER_OPTIONS = {**OTHER_OPTIONS, "n_shots": "--shots", "random_state": "--seed"}


def run(options: argparse.Namespace) -> None:
    """Compare approaches, and print the table."""
    if options.output is not None:
        try_target(options.output, f".{options.format or 'csv'}", [{"approach": ""}])
    if options.train == options.test == STREAM:
        msg = "TRAIN and TEST cannot both be standard input. Put one of them into a file."
        raise DataFormatError(msg)
    names = list(dict.fromkeys(options.approach or APPROACHES))
    _check_parameters(options.parameters, names)
    approaches = {_NAMES[name]: _make_approach(name, options) for name in names}
    train = read_labelled_source(options.train, options, options.test)
    test = read_labelled_source(options.test, options, options.train)
    report = compare(
        approaches,
        train.texts,
        train.labels,
        test.texts,
        test.labels,
        n_shots=options.shots,
        n_seeds=options.seeds,
        scoring=options.scoring,
        random_state=options.seed,
        folder=options.store,
        verbose=int(options.progress),
    )
    if options.output is not None:
        write_target(options.output, f".{options.format or 'csv'}", report.to_rows())
    if options.output != STREAM:
        print(report)


def _make_approach(name: str, options: argparse.Namespace) -> Any:
    """Return an approach, with those of the parameters that it has."""
    if name == "svm":
        return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC())
    assignments = [
        (parameter, value)
        for parameter, value in options.parameters
        if has_parameter(CLASSES[name], parameter)
    ]
    return make_classifier(name, options, assignments, _OTHER_OPTIONS, n_shots=options.shots)


def _check_parameters(parameters: list[tuple[str, str]], names: Sequence[str]) -> None:
    """Raise if no approach has a parameter."""
    for parameter, _ in parameters:
        if not any(has_parameter(CLASSES[name], parameter) for name in names if name in CLASSES):
            msg = f"None of the approaches {', '.join(names)} has a parameter {parameter!r}."
            raise InvalidParameterError(msg)
