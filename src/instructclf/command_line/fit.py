"""``fit``: labelled rows → a saved classifier."""

from __future__ import annotations

import argparse
from pathlib import Path

from instructclf.classifiers.saving import FILE
from instructclf.command_line.estimators import make_classifier
from instructclf.command_line.files import STREAM, read_labelled_source
from instructclf.exceptions import DataFormatError
from instructclf.storage import check_replaceable


def run(options: argparse.Namespace) -> None:
    """Fit a classifier and save it."""
    check_replaceable(Path(options.save), FILE)  # before spending time on the fit
    classifier = make_classifier(
        options.approach, options, options.parameters, verbose=int(options.progress)
    )
    if options.train == options.test == STREAM:
        msg = "TRAIN and --test cannot both be standard input. Put one of them into a file."
        raise DataFormatError(msg)
    train = read_labelled_source(options.train, options, options.test or STREAM)
    test = options.test and read_labelled_source(options.test, options, options.train)
    classifier.fit(train.texts, train.labels)
    scores = {"accuracy": classifier.score(test.texts, test.labels)} if test else {}
    classifier.set_params(verbose=0)  # progress bars are up to the user who loads it
    classifier.save(options.save, scores=scores)
    labels = ", ".join(classifier.classes_.tolist())
    print(
        f"{options.save}: {type(classifier).__name__}, {len(classifier.shots_)} of {len(train)} "
        f"rows as shots, labels {labels}"
    )
    for name, score in scores.items():
        print(f"{name} on the {len(test)} rows of {options.test}: {score:.4f}")
