"""``prompt``: a text and a saved classifier → what the model reads, in named parts."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from instructclf.command_line.files import STREAM
from instructclf.command_line.loading import load_named


def run(options: argparse.Namespace) -> None:
    """Show the prompt of a text.

    Parameters
    ----------
    options : argparse.Namespace
        What the command line says.
    """
    text = sys.stdin.read() if options.text == STREAM else options.text
    classifier = load_named(options)
    if classifier._averages_predictions:  # noqa: SLF001  (a seed is a classifier by itself)
        print(f"The first of {classifier.n_seeds} seeds, each with a prompt of its own:\n")
        classifier = classifier.estimators_[0]
    print(classifier.show_prompt(text, _find_label(classifier, options.label)))
    if options.tokens:
        print()
        print(classifier.show_tokens(text))


def _find_label(classifier: Any, word: str | None) -> Any:
    """Return the label that a word on the command line means, which may be a number."""
    known = {str(label): label for label in classifier.classes_.tolist()}
    return known.get(word, word) if word is not None else None
