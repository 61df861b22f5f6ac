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
    """Return an unfitted tuned classifier with a prompted teacher, which labels texts for it.

    Each gets the values of ``--param`` that it has a parameter for, except that ``n_shots`` goes to
    the teacher alone: the student learns from all rows.
    """
    of_teacher, of_student = [], []
    for name, text in options.parameters:
        is_of_teacher = has_parameter(CLASSES["prompting"], name)
        if is_of_teacher:
            of_teacher.append((name, text))
        # What neither has is an error of the student.
        if name != "n_shots" and (has_parameter(CLASSES["tuning"], name) or not is_of_teacher):
            of_student.append((name, text))
    student = make_classifier("tuning", options, of_student, max_epochs=_STUDENT_EPOCHS)
    teacher = make_classifier("prompting", options, of_teacher)
    classifier = DistilledClassifier(student, teacher, unlabelled)
    if hasattr(options, "texts_per_label"):
        classifier.set_params(n_texts_per_label=options.texts_per_label)
    return classifier


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
