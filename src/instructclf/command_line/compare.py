"""``compare``: labelled rows → a table of approaches that learned from the same few of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.command_line.arguments import APPROACHES
from instructclf.command_line.files import (
    STREAM,
    check_target,
    read_definitions,
    read_labelled_source,
    write_target,
)
from instructclf.command_line.parameters import SAID_OTHERWISE, has_parameter, read_parameters
from instructclf.evaluation import compare
from instructclf.exceptions import DataFormatError

_NAMES = {"svm": "TF-IDF + LinearSVC", "prompting": "prompting", "tuning": "instruction tuning"}
_KINDS = {"prompting": PromptClassifier, "tuning": InstructionTunedClassifier}
_OPTIONS = {**SAID_OTHERWISE, "n_shots": "--shots", "random_state": "--seed"}


def run(options: argparse.Namespace) -> None:
    """Compare approaches, and print the table.

    Parameters
    ----------
    options : argparse.Namespace
        What the command line says.
    """
    if options.output is not None:
        check_target(options.output)
    if options.train == options.test == STREAM:
        msg = "TRAIN and TEST cannot both be standard input. Put one of them into a file."
        raise DataFormatError(msg)
    names = list(dict.fromkeys(options.approach or APPROACHES))
    _check_somebody_takes(options.parameters, names)
    approaches = {_NAMES[name]: _make(name, options) for name in names}
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


def _make(name: str, options: argparse.Namespace) -> Any:
    """Return an approach, with those of the parameters that it has."""
    if name == "svm":
        return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC())
    kind = _KINDS[name]
    own = [
        (parameter, value)
        for parameter, value in options.parameters
        if has_parameter(kind, parameter)
    ]
    return kind(
        options.model,
        label_definitions=read_definitions(options.definitions, options.define),
        n_shots=options.shots,
        **read_parameters(kind, own, _OPTIONS),
    )


def _check_somebody_takes(parameters: list[tuple[str, str]], names: Sequence[str]) -> None:
    """Raise if a parameter is one of no approach."""
    for parameter, _ in parameters:
        if not any(has_parameter(_KINDS[name], parameter) for name in names if name in _KINDS):
            msg = f"None of the approaches {', '.join(names)} has a parameter {parameter!r}."
            raise InvalidParameterError(msg)
