"""A joint labeller → the forms in which its answers are given: one table, labels, estimators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import MultiLabelBinarizer

from instructclf.classifiers.labellers import JointEnsemble, JointLabeller
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.several.asked import is_indicator


def side_by_side(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return columns as one array, of dtype object if they are of different kinds."""
    kinds = {column.dtype.kind for column in columns}
    return np.column_stack([c if len(kinds) == 1 else c.astype(object) for c in columns])


def make_binarizer(labeller: JointLabeller | JointEnsemble) -> MultiLabelBinarizer:
    """Return what turns rows of 0 and 1 into lists of questions."""
    if not all(map(is_indicator, labeller.classes)):
        msg = "label_binarizer_ exists only where the labels of all questions are 0 and 1."
        raise AttributeError(msg)
    return MultiLabelBinarizer(classes=labeller.names).fit([])


def ask_alone(classifier: Any) -> list[PromptClassifier]:
    """Return a classifier of each question, over what was learned for all of them."""
    labeller = classifier.labeller_
    parameters = classifier.get_params(deep=False)
    shared = {
        name: parameters[name] for name in PromptClassifier().get_params() if name in parameters
    }
    definitions = classifier.label_definitions or {}
    found = []
    for position, name in enumerate(labeller.names):
        words = zip(
            labeller.classes[position].tolist(), labeller.label_words[position], strict=True
        )
        defined = definitions.get(name)
        alone = PromptClassifier(**shared).set_params(
            verbalizer={label: list(answers) for label, answers in words},
            label_definitions=dict(defined) if isinstance(defined, Mapping) else None,
        )
        vars(alone)["_model"] = vars(classifier).get("_model")
        alone.labeller_ = labeller.alone(position)
        found.append(alone)
    return found
