"""``prompt``: a text and a saved classifier → the prompt that the model reads, in named parts."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.base import PromptedClassifier
from instructclf.command_line.answers import answers_several
from instructclf.command_line.estimators import load_classifier
from instructclf.command_line.files import STREAM
from instructclf.inputs.spelling import did_you_mean


def run(options: argparse.Namespace) -> None:
    """Show the prompt of a text."""
    text = sys.stdin.read() if options.text == STREAM else options.text
    classifier = _find_asked(load_classifier(options), options.question)
    if not isinstance(classifier, PromptedClassifier):
        msg = (
            f"{options.classifier!r} is a {type(classifier).__name__}, which has no prompt of its "
            "own. Give a classifier in it, such as its folder member-0."
        )
        raise InvalidParameterError(msg)
    if not hasattr(classifier, "prompt_"):  # several seeds, each with a different prompt
        print(f"The prompt of the first of {classifier.n_seeds} seeds:\n")
        classifier = classifier.estimators_[0]
    print(classifier.show_prompt(text, _find_label(classifier, options.label)))
    if options.tokens:
        print()
        print(classifier.show_tokens(text))


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
