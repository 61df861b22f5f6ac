"""``fit``: labelled rows → a saved classifier."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.classifiers.saving import FILE
from instructclf.command_line.files import STREAM, read_definitions, read_labelled_source
from instructclf.command_line.parameters import read_parameters
from instructclf.exceptions import DataFormatError
from instructclf.storage import check_place

KINDS = {"prompting": PromptClassifier, "tuning": InstructionTunedClassifier}


def run(options: argparse.Namespace) -> None:
    """Fit a classifier and save it.

    Parameters
    ----------
    options : argparse.Namespace
        What the command line says.
    """
    check_place(Path(options.save), FILE)  # before the time is spent
    kind = KINDS[options.approach]
    classifier = kind(
        options.model,
        label_definitions=read_definitions(options.definitions, options.define),
        verbose=int(options.progress),
        **read_parameters(kind, options.parameters),
    )
    if options.train == options.test == STREAM:
        msg = "TRAIN and --test cannot both be standard input. Put one of them into a file."
        raise DataFormatError(msg)
    train = read_labelled_source(options.train, options, options.test or STREAM)
    test = options.test and read_labelled_source(options.test, options, options.train)
    classifier.fit(train.texts, train.labels)
    scores = {"accuracy": classifier.score(test.texts, test.labels)} if test else {}
    _silence(classifier)
    classifier.save(options.save, scores=scores)
    labels = ", ".join(classifier.classes_.tolist())
    print(
        f"{options.save}: {type(classifier).__name__}, {len(classifier.shots_)} of {len(train)} "
        f"rows as shots, labels {labels}"
    )
    for name, score in scores.items():
        print(f"{name} on the {len(test)} rows of {options.test}: {score:.4f}")


def _silence(classifier: Any) -> None:
    """Let whoever loads it decide on bars anew."""
    for own in [classifier, *getattr(classifier, "estimators_", [])]:
        own.set_params(verbose=0)
