"""``prompt``: a text and a saved classifier → the prompt that the model reads, in named parts."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.wrapping.storing.parts import find_parts, find_prompted
from instructclf.classifiers.wrapping.storing.wrappers import INSIDE
from instructclf.classifiers.wrapping.wrapper import ClassifierWrapper
from instructclf.command_line.answers import answers_several
from instructclf.command_line.estimators import load_classifier
from instructclf.command_line.files import STREAM
from instructclf.inputs.spelling import did_you_mean


def run(options: argparse.Namespace) -> None:
    """Show the prompt of a text."""
    text = sys.stdin.read() if options.text == STREAM else options.text
    loaded, folders = _unwrap(load_classifier(options))
    classifier = _find_asked(loaded, options.question)
    if not isinstance(classifier, PromptedClassifier):
        msg = (
            f"{options.classifier!r} is a {type(classifier).__name__}, which has no prompt of its "
            f"own. {_suggest(classifier, folders)}"
        )
        raise InvalidParameterError(msg)
    if not hasattr(classifier, "prompt_"):  # several seeds, each with a different prompt
        print(f"The prompt of the first of {classifier.n_seeds} seeds:\n")
        classifier = classifier.estimators_[0]
    print(classifier.show_prompt(text, _find_label(classifier, options.label)))
    if options.tokens:
        print()
        print(classifier.show_tokens(text))


def _unwrap(classifier: Any) -> tuple[Any, str]:
    """Return the classifier inside wrappers, which reads the prompt, and its folder in theirs."""
    folders = ""
    while isinstance(classifier, ClassifierWrapper):
        (classifier,) = find_parts(classifier).values()
        folders += f"{INSIDE}/"
    return classifier, folders


def _suggest(classifier: Any, folders: str) -> str:
    """Say which classifier in one without a prompt has a prompt, and its folder."""
    for number, part in enumerate(find_parts(classifier).values()):
        if find_prompted(part):
            return f"Give a classifier in it, such as its folder {folders}member-{number}."
    return "It asks no language model."


def _find_asked(classifier: Any, question: str | None) -> Any:
    """Return the classifier itself or, if it answers several questions, that of one of them."""
    if not answers_several(classifier):
        if question is not None:
            msg = (
                f"--question {question}: a {type(classifier).__name__} answers one question. Leave "
                "the option out."
            )
            raise InvalidParameterError(msg)
        return classifier
    names = [str(name) for name in classifier.questions_.tolist()]
    if question is None:
        return classifier.estimators_[0]
    if question not in names:
        msg = (
            f"There is no question {question!r}. The questions are {', '.join(names)}."
            f"{did_you_mean([question], names)}"
        )
        raise InvalidParameterError(msg)
    return classifier.estimators_[names.index(question)]


def _find_label(classifier: Any, text: str | None) -> Any:
    """Return the label that a text on the command line means, which may be a number."""
    labels = {str(label): label for label in classifier.classes_.tolist()}
    return labels.get(text, text) if text is not None else None
