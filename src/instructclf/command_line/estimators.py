"""Options → classifiers: new ones to fit, and saved ones to predict with."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from instructclf import (
    DistilledClassifier,
    InstructionTunedClassifier,
    MultiOutputPromptClassifier,
    PromptClassifier,
    load,
)
from instructclf.classifiers.loading import name_options
from instructclf.command_line.definitions import read_definitions
from instructclf.command_line.parameters import OTHER_OPTIONS, has_parameter, read_parameters

CLASSES: Mapping[str, type] = {
    "prompting": PromptClassifier,
    "tuning": InstructionTunedClassifier,
}
"""The classifier of each approach to one question."""
_STUDENT_EPOCHS = 2
"""A student sees many more rows than were labelled."""


def make_classifier(
    approach: str,
    options: argparse.Namespace,
    assignments: Sequence[tuple[str, str]],
    other_options: Mapping[str, str] = OTHER_OPTIONS,
    **parameters: Any,
) -> Any:
    """Return an unfitted classifier with the values of ``--param`` and more parameters."""
    kind = CLASSES[approach]
    definitions = read_definitions(options.definitions, options.define)
    classifier = kind(options.model, label_definitions=definitions, **parameters)
    return classifier.set_params(**read_parameters(kind, assignments, other_options))


def make_distilled_classifier(
    options: argparse.Namespace, unlabelled: Sequence[str]
) -> DistilledClassifier:
    """Return an unfitted tuned classifier that a prompted one teaches about texts.

    Both have those values of ``--param`` that they can have, but ``n_shots``: it is how many rows
    the teacher shows. The student learns from all.
    """
    of_teacher = [pair for pair in options.parameters if has_parameter(PromptClassifier, pair[0])]
    of_student = [
        (name, text)
        for name, text in options.parameters
        if name != "n_shots"
        # What neither has is an error of the student.
        and (has_parameter(CLASSES["tuning"], name) or (name, text) not in of_teacher)
    ]
    student = make_classifier("tuning", options, of_student, max_epochs=_STUDENT_EPOCHS)
    teacher = make_classifier("prompting", options, of_teacher)
    n_each = options.texts_per_label
    return DistilledClassifier(student, teacher, unlabelled, n_texts_per_label=n_each)


def make_joint_classifier(options: argparse.Namespace) -> MultiOutputPromptClassifier:
    """Return an unfitted classifier of several questions with the values of ``--param``."""
    kind, others = MultiOutputPromptClassifier, {**OTHER_OPTIONS, "questions": "--label-column"}
    return kind(options.model).set_params(**read_parameters(kind, options.parameters, others))


def load_classifier(options: argparse.Namespace) -> Any:
    """Load the saved classifier that the options of a command name."""
    # The class is unknown until the classifier is loaded; the tuned one has the parameters of both.
    changes = read_parameters(InstructionTunedClassifier, options.parameters)
    if options.model is not None:
        changes["model"] = options.model
    changes["verbose"] = int(options.progress)
    changes = name_options(options.classifier, changes, revision=options.revision)
    return load(options.classifier, revision=options.revision, **changes)
