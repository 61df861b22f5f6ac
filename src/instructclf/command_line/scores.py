"""A fitted classifier and labelled rows → its figures for the terminal and the model card."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from instructclf.classifiers.several.asked import is_indicator
from instructclf.datasets.answered import AnsweredTexts
from instructclf.datasets.labelled import LabelledTexts


def measure(classifier: Any, test: LabelledTexts) -> dict[str, float]:
    """Return the accuracy."""
    return {"accuracy": classifier.score(test.texts, test.labels)}


def measure_jointly(classifier: Any, test: AnsweredTexts) -> dict[str, float]:
    """Return the share of texts with all answers right, and a figure for each question.

    That is its accuracy, or F1 where the answers are 0 and 1: such labels are often rare, and never
    predicting one is right nearly always.
    """
    predicted = classifier.predict(test.texts)
    right = predicted == np.array(test.labels, dtype=object)
    scores = {"all answers right": float(right.all(axis=1).mean())}
    asked = zip(test.columns.items(), classifier.classes_, predicted.T, strict=True)
    for (name, labels), classes, found in asked:
        answers = found.tolist()
        if is_indicator(classes):
            score = f1_score(labels, answers, zero_division=0)  # pyright: ignore[reportArgumentType]
            scores[f"F1 of {name}"] = float(score)
        else:
            scores[f"accuracy of {name}"] = float(accuracy_score(labels, answers))
    return scores
