"""A classifier and texts → columns of predictions and probabilities, of one question or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instructclf.classifiers.label_scores import choose_above_mass, mass_of
from instructclf.classifiers.several.asked import is_indicator
from instructclf.classifiers.wrapping.conformal import ConformalClassifier
from instructclf.classifiers.wrapping.ordinal import OrdinalClassifier
from instructclf.classifiers.wrapping.wrapper import decide


class Columns(NamedTuple):
    """What a classifier adds to rows: the names of columns, or their values."""

    predictions: list[Any]
    probabilities: list[Any]


def answers_several(classifier: Any) -> bool:
    """Say whether a classifier answers several questions."""
    return hasattr(classifier, "questions_")


def has_label_mass(classifier: Any) -> bool:
    """Say whether a classifier knows how likely the model is to give any label at all."""
    return hasattr(classifier, "label_mass")


def name_columns(classifier: Any) -> Columns:
    """Return the names of the columns that a classifier adds.

    With several questions, each has a prediction. One of 0 and 1 has the probability of 1.
    """
    if not answers_several(classifier):
        labels = classifier.classes_.tolist()
        return Columns(
            ["prediction", *_name_further(classifier)], [f"probability_{label}" for label in labels]
        )
    asked = list(zip(classifier.questions_.tolist(), classifier.classes_, strict=True))
    return Columns(
        [f"prediction_{question}" for question, _ in asked],
        [
            name
            for question, classes in asked
            for name in (
                [f"probability_{question}"]
                if is_indicator(classes)
                else [f"probability_{question}_{label}" for label in classes.tolist()]
            )
        ],
    )


def answer(classifier: Any, texts: Sequence[str]) -> Columns:
    """Return the values of the columns that `name_columns` names, from one pass over the texts."""
    probabilities = classifier.predict_proba(texts)
    if not answers_several(classifier):
        labels = decide(classifier, probabilities).tolist()
        return Columns(
            [labels, *_answer_further(classifier, probabilities)], probabilities.T.tolist()
        )
    asked = list(zip(classifier.labeller_.answers, probabilities, strict=True))
    return Columns(
        [own.choose(found).tolist() for own, found in asked],
        [
            column
            for own, found in asked
            for column in (found.T[1:] if is_indicator(own.classes) else found.T).tolist()
        ],
    )


def _name_further(classifier: Any) -> list[str]:
    """Return the names of what a classifier says of a text besides its label."""
    if isinstance(classifier, ConformalClassifier):
        return [f"in_set_{label}" for label in classifier.classes_.tolist()]
    return ["expected_score"] if isinstance(classifier, OrdinalClassifier) else []


def _answer_further(classifier: Any, probabilities: NDArray[np.float64]) -> list[list[Any]]:
    """Return the values that `_name_further` names: ``predict_set`` and ``expected_score``."""
    if isinstance(classifier, ConformalClassifier):
        return (probabilities >= classifier.thresholds_).T.tolist()
    if isinstance(classifier, OrdinalClassifier):
        return [(probabilities @ classifier.scores_).tolist()]
    return []


def answer_or_abstain(
    classifier: Any, texts: Sequence[str], min_label_mass: float
) -> tuple[Columns, list[float]]:
    """Return the same columns, with no label below the label mass, and the mass of each text."""
    scores = classifier.label_scores(texts)
    labels = choose_above_mass(classifier.classes_, scores, min_label_mass)
    columns = Columns([labels.tolist()], np.exp(scores.log_probabilities).T.tolist())
    return columns, mass_of(scores.log_likelihood).tolist()
