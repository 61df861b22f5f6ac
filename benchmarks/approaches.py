"""Estimators that are compared on a task: tuning, prompting, and classifiers without a model."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from tasks import Rows, Task, prompt_options

from instructclf import (
    BlendedClassifier,
    DistilledClassifier,
    InstructionTunedClassifier,
    PromptClassifier,
    PromptFeatures,
)

N_UNLABELLED, STUDENT_EPOCHS = 256, 2
_KINDS = (InstructionTunedClassifier, PromptClassifier)
BUNDLED_TUNING = {"loss": "lm+label", "learning_rate": 2e-4}
"""What the stored results on the bundled model were measured with, before defaults changed."""
MAX_EPOCHS = inspect.signature(InstructionTunedClassifier).parameters["max_epochs"].default


def tuning(task: Task, rows: Rows, model: str, **options: Any) -> InstructionTunedClassifier:
    """Return a classifier that tunes on all rows it is given.

    Options are named as in ``set_params``: ``adapter__rank=4``.
    """
    classifier = InstructionTunedClassifier(model, **prompt_options(task, rows.labels))
    return classifier.set_params(**options)


def prompting(task: Task, rows: Rows, model: str, **options: Any) -> PromptClassifier:
    """Return a classifier that shows rows it is given in its prompt."""
    return PromptClassifier(model, **prompt_options(task, rows.labels)).set_params(**options)


def features(task: Task, rows: Rows, model: str, **options: Any) -> Any:
    """Return logistic regression on the states of a language model, which reads a prompt."""
    given = prompt_options(task, rows.labels)
    reader = PromptFeatures(model, labels=rows.labels, **given).set_params(**options)
    return make_pipeline(reader, StandardScaler(), LogisticRegression(max_iter=1000))


class TextsOf(list[str]):
    """Training texts of a task without their labels, drawn once for all seeds.

    Raw results describe them by their number and the digest of the rows.

    Parameters
    ----------
    rows : Rows
        The rows of the task.
    n_texts : int
        How many.
    """

    def __init__(self, rows: Rows, n_texts: int) -> None:
        texts = rows.split.X_train
        super().__init__(
            texts[i] for i in np.random.RandomState(0).permutation(len(texts))[:n_texts]
        )
        self._description = f"{n_texts} training texts, {rows.digest}"

    def __repr__(self) -> str:
        return self._description


def distilled(task: Task, rows: Rows, model: str, *, teacher: str, **options: Any) -> Any:
    """Return a tuned student of a teacher.

    The teacher is ``"prompted"``; ``"averaged"`` over four orders of shots, the labels stated in
    each order in turn; ``"tuned"``; ``"blended"`` of prompting and tuning; or ``"distilled"``,
    itself a student of prompting. There are ``n_unlabelled`` texts, or `N_UNLABELLED`, of which the
    student reads ``n_texts_per_label``. Other options are those of tuning; the student reads each
    row `STUDENT_EPOCHS` times.
    """
    texts = TextsOf(rows, options.pop("n_unlabelled", N_UNLABELLED))
    n_each = options.pop("n_texts_per_label", 32)
    shared = {name: options[name] for name in options if name.startswith("model_options")}
    prompted = prompting(task, rows, model, n_shots=None, **shared)
    averaged = {"n_shots": None, "n_seeds": 4, "label_order": "cyclic"}
    tuned = tuning(task, rows, model, **options)
    student = tuning(task, rows, model, **options | {"max_epochs": STUDENT_EPOCHS})
    teachers = {
        "prompted": prompted,
        "averaged": prompting(task, rows, model, **averaged, **shared),
        "tuned": tuned,
        "blended": BlendedClassifier([("prompting", prompted), ("tuning", tuned)]),
        "distilled": DistilledClassifier(student, prompted, texts, n_texts_per_label=n_each),
    }
    return DistilledClassifier(student, teachers[teacher], texts, n_texts_per_label=n_each)


def svm() -> Any:
    """Return the usual baseline: words and pairs of words, a linear support vector machine."""
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC(random_state=0))


def regression() -> Any:
    """Return logistic regression on the same features."""
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))


def majority() -> Any:
    """Return a classifier that always answers with the most frequent label."""
    return DummyClassifier(strategy="most_frequent")


def chosen_for(kind: Callable[..., Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return those of ``--set`` that this kind of estimator has."""
    names = inspect.signature(kind).parameters
    return {name: v for name, v in parameters.items() if name.partition("__")[0] in names}


def parse_parameters(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return ``name=value`` pairs as parameters; a value is a Python literal, or text.

    Exits if no classifier of the package has such a parameter.
    """
    found = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        if not any(chosen_for(kind, {name: value}) for kind in _KINDS):
            sys.exit(f"--set {pair}: no classifier has a parameter {name.partition('__')[0]!r}.")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found
