"""``fit``: labelled rows → a saved classifier, of one question or of several."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.utils._param_validation import InvalidParameterError

from instructclf import DistilledClassifier
from instructclf.classifiers.saving import FILE
from instructclf.classifiers.several.asked import is_indicator
from instructclf.command_line.answers import answers_several
from instructclf.command_line.definitions import (
    by_question,
    read_column_definitions,
    with_labels_of,
)
from instructclf.command_line.estimators import (
    make_classifier,
    make_distilled_classifier,
    make_joint_classifier,
)
from instructclf.command_line.files import (
    STREAM,
    read_answered_source,
    read_labelled_source,
    read_source,
    take_texts,
)
from instructclf.command_line.scores import measure, measure_jointly
from instructclf.datasets.answered import AnswerColumns
from instructclf.exceptions import DataFormatError, InvalidLabelsError
from instructclf.storage import check_replaceable


class Prepared(NamedTuple):
    """A classifier that is not fitted yet, its rows, and rows to test it on, if any."""

    classifier: Any
    train: Any
    test: Any
    measure: Any


class Fitted(NamedTuple):
    """A fitted classifier, and a few words about what it has learned from."""

    classifier: Any
    learned: str


def run(options: argparse.Namespace) -> None:
    """Fit a classifier and save it."""
    check_replaceable(Path(options.save), FILE)  # before spending time on the fit
    _check_streams(options)
    _check_unlabelled(options)
    asks_several = options.list_column or len(options.label_column) > 1
    prepared = (_prepare_joint if asks_several else _prepare)(options)
    classifier, learned = _fit(prepared, int(options.progress))
    test = prepared.test
    scores = prepared.measure(classifier, test) if test else {}
    classifier.set_params(verbose=0)  # progress bars are up to the user who loads it
    classifier.save(options.save, scores=scores)
    print(f"{options.save}: {type(classifier).__name__}, {learned}, {_describe(classifier)}")
    for name, score in scores.items():
        print(f"{name} on the {len(test)} rows of {options.test}: {score:.4f}")


def _check_streams(options: argparse.Namespace) -> None:
    sources = {"TRAIN": options.train, "--test": options.test, "--unlabelled": options.unlabelled}
    streams = [name for name, path in sources.items() if path == STREAM]
    if len(streams) > 1:
        first, second, *_ = streams
        msg = f"{first} and {second} cannot both be standard input. Put one of them into a file."
        raise DataFormatError(msg)


def _check_unlabelled(options: argparse.Namespace) -> None:
    if options.unlabelled is None and hasattr(options, "texts_per_label"):
        msg = (
            "--texts-per-label says how many texts of --unlabelled to learn from. Name their file."
        )
        raise InvalidParameterError(msg)
    if options.unlabelled is not None and options.approach != "tuning":
        msg = (
            f"--unlabelled is for --approach tuning, not {options.approach}: only tuning learns "
            "from more texts than a prompt holds."
        )
        raise InvalidParameterError(msg)


def _fit(prepared: Prepared, verbose: int) -> Fitted:
    """Fit the classifier, and return what is saved."""
    classifier, train = prepared.classifier, prepared.train
    if not isinstance(classifier, DistilledClassifier):
        classifier.set_params(verbose=verbose).fit(train.texts, train.labels)
        return Fitted(classifier, f"{len(classifier.shots_)} of {len(train)} rows as shots")
    classifier.set_params(estimator__verbose=verbose, teacher__verbose=verbose)
    classifier.fit(train.texts, train.labels)
    n_texts, n_all = len(classifier.pseudo_labelled_.labels), len(classifier.unlabelled)
    learned = f"{len(train)} labelled rows and {n_texts} of {n_all} texts without labels"
    return Fitted(classifier.estimator_, learned)


def _prepare(options: argparse.Namespace) -> Prepared:
    others = options.test or options.unlabelled or STREAM
    if options.unlabelled is None:
        classifier = make_classifier(options.approach, options, options.parameters)
    else:
        columns, path = (options.text_column,), options.unlabelled
        texts = take_texts(path, read_source(path, options, columns, options.train), options)
        classifier = make_distilled_classifier(options, texts)
    train = read_labelled_source(options.train, options, others)
    test = options.test and read_labelled_source(options.test, options, options.train)
    return Prepared(classifier, train, test, measure)


def _prepare_joint(options: argparse.Namespace) -> Prepared:
    _check_joint(options)
    classifier = make_joint_classifier(options)
    names = [*options.label_column, *options.list_column]
    defined = read_column_definitions(options.definitions, options.define, names)
    lists = {name: list(defined.get(name, ())) for name in options.list_column}
    columns = AnswerColumns(options.label_column, lists, options.list_separator)
    train = read_answered_source(options.train, options, columns, options.test or STREAM)
    test = options.test and read_answered_source(
        options.test, options, columns, options.train, train
    )
    words = classifier.verbalizer or {}
    classifier.set_params(
        questions=train.names,
        label_definitions=by_question(defined, columns, train),
        verbalizer={
            name: with_labels_of(own, train.columns[name]) if name in train.columns else own
            for name, own in words.items()
        }
        or None,
    )
    return Prepared(classifier, train, test, measure_jointly)


def _check_joint(options: argparse.Namespace) -> None:
    names = [*options.label_column, *options.list_column]
    if repeated := [name for name in names if names.count(name) > 1]:
        msg = f"The column {repeated[0]!r} is named twice. Name each column once."
        raise DataFormatError(msg)
    if options.label_names is not None:
        msg = (
            "--label-names names the classes of a single label column, and there are several. "
            "Write the names into the file."
        )
        raise DataFormatError(msg)
    if options.approach != "prompting":
        msg = (
            f"--approach {options.approach} takes one label column. Several columns, or lists of "
            "labels, are answered by --approach prompting, the default."
        )
        raise InvalidLabelsError(msg)


def _describe(classifier: Any) -> str:
    """Return what the classifier answers, question by question."""
    if not answers_several(classifier):
        return f"labels {', '.join(classifier.classes_.tolist())}"
    asked = zip(classifier.questions_.tolist(), classifier.classes_, strict=True)
    questions = [
        name if is_indicator(classes) else f"{name} ({', '.join(classes.tolist())})"
        for name, classes in asked
    ]
    return f"questions {', '.join(questions)}"
