"""``prompt``: a text and a saved classifier → the prompt that the model reads, in named parts."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.base import PromptedClassifier
from instructclf.command_line.estimators import load_classifier
from instructclf.command_line.files import STREAM


def run(options: argparse.Namespace) -> None:
    """Show the prompt of a text."""
    text = sys.stdin.read() if options.text == STREAM else options.text
    classifier = load_classifier(options)
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


def _find_label(classifier: Any, text: str | None) -> Any:
    """Return the label that a text on the command line means, which may be a number."""
    labels = {str(label): label for label in classifier.classes_.tolist()}
    return labels.get(text, text) if text is not None else None
