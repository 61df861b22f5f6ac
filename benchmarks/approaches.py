"""What is compared: tuning, prompting, and what needs no language model, on one task."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from typing import Any

from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from tasks import Rows, Task, prompt_options

from instructclf import InstructionTunedClassifier, PromptClassifier

MAX_EPOCHS = inspect.signature(InstructionTunedClassifier).parameters["max_epochs"].default


def tuning(task: Task, rows: Rows, model: str, **options: Any) -> InstructionTunedClassifier:
    """Return a classifier that tunes on all rows it is given."""
    return InstructionTunedClassifier(model, **(prompt_options(task, rows.labels) | options))


def prompting(task: Task, rows: Rows, model: str, **options: Any) -> PromptClassifier:
    """Return a classifier that shows rows it is given in its prompt."""
    return PromptClassifier(model, **(prompt_options(task, rows.labels) | options))


def svm() -> Any:
    """Return the usual baseline: words and pairs of words, a linear support vector machine."""
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC(random_state=0))


def regression() -> Any:
    """Return logistic regression on the same features."""
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))


def majority() -> Any:
    """Return what always answers with the most frequent label."""
    return DummyClassifier(strategy="most_frequent")


def has_parameter(name: str, kind: Any = InstructionTunedClassifier) -> bool:
    """Say whether the installed library has a parameter."""
    return name in inspect.signature(kind).parameters


def parse_parameters(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return ``name=value`` pairs as parameters; values are Python's, or text."""
    found = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found
