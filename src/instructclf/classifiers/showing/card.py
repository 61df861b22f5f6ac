"""An estimator → its picture in a notebook: scikit-learn's diagram, and what the model is asked.

It loads no language model, so that looking at an estimator costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import estimator_html_repr
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.labels import check_label_words, defined_classes, find_stated_labels
from instructclf.classifiers.questions import draft_prompt
from instructclf.classifiers.showing.card_html import Card, write_card
from instructclf.classifiers.showing.stretches import find_stretches
from instructclf.exceptions import InstructClfError
from instructclf.prompts import CHAT, Prompt, get_template

_TEXT = "[the text]"
_WITH_WEIGHTS = ("adapter_", "labeller_")
"""Attributes that are too large to be shown."""


def add_card(estimator: Any) -> str:
    """Return scikit-learn's diagram, with labels and a preview of the prompt below it.

    Of the data it shows the solved examples alone, and of weights nothing.
    """
    return estimator_html_repr(estimator) + write_card(_describe_card(estimator))


def visible_attributes(estimator: Any, attributes: Any) -> Any:
    """Drop what scikit-learn would list of an estimator: weights, and what is not fitted."""
    for name in [*attributes]:
        if name in _WITH_WEIGHTS or not hasattr(estimator, name):
            attributes.pop(name)
    return attributes


def _describe_card(estimator: Any) -> Card:
    """Describe the fit, or, before it, what the parameters say."""
    if hasattr(estimator, "questions"):
        return _describe_questions(estimator)
    if not estimator.__sklearn_is_fitted__():
        return _describe_parameters(estimator)
    has_prompt = hasattr(estimator, "prompt_")
    shown = estimator if has_prompt else estimator.estimators_[0]
    labels = shown.classes_.tolist() if hasattr(shown, "classes_") else _find_labels(shown)
    return Card(
        _describe_fit(estimator),
        _tabulate(estimator, labels or [], shown.label_words_),
        find_stretches(shown.prompt_, _TEXT, "", was_cut=False),
    )


def _describe_questions(estimator: Any) -> Card:
    """Describe a fit to several questions. Before it, only ``y`` knows which they are."""
    if not estimator.__sklearn_is_fitted__():
        return Card(["Not fitted"], [], ())
    labeller = estimator.labeller_
    first = labeller.members[0] if hasattr(labeller, "members") else labeller
    rows = [
        (str(name), ", ".join(map(str, classes.tolist())), "")
        for name, classes in zip(labeller.names, labeller.classes, strict=True)
    ]
    stretches = find_stretches(first.prompt, _TEXT, "", was_cut=False)
    return Card(_describe_fit(estimator), rows, stretches)


def _describe_parameters(estimator: Any) -> Card:
    try:
        estimator._validate_params()  # noqa: SLF001  (scikit-learn's, for estimators to call)
        labels = _find_labels(estimator)
        words = (("…",),)
        if labels is not None:
            words = check_label_words(np.array(labels), estimator.verbalizer) if labels else ()
        prompt = None if estimator.template == CHAT else _draft(estimator, labels or [], words)
    except (InstructClfError, InvalidParameterError):  # fit will say what is wrong
        return Card(["Not fitted"], [], ())
    facts = ["Not fitted"]
    if labels is None:
        facts.append("the labels of y will stand in place of “…”")
    if prompt is None:
        facts.append("the template is the tokenizer's own")
    stretches = () if prompt is None else find_stretches(prompt, _TEXT, "", was_cut=False)
    return Card(facts, _tabulate(estimator, labels or [], words), stretches)


def _find_labels(estimator: Any) -> list[Any] | None:
    """Return the labels that parameters name, or ``None`` where only ``fit`` will know."""
    defined = estimator.label_definitions
    if hasattr(estimator, "labels"):
        return find_stated_labels(estimator.labels, defined).tolist()
    return None if defined is None else defined_classes(defined).tolist()


def _draft(estimator: Any, labels: list[Any], words: Sequence[Sequence[str]]) -> Prompt:
    defined = estimator.label_definitions
    return draft_prompt(
        get_template(estimator.template),
        task=estimator.instruction,
        label_words=words,
        definitions=None if defined is None else [defined[label] for label in labels],
    )


def _tabulate(
    estimator: Any, labels: list[Any], words: Sequence[Sequence[str]]
) -> list[tuple[str, str, str]]:
    defined = estimator.label_definitions or {}
    return [
        (str(label), ", ".join(answers), defined.get(label, ""))
        for label, answers in zip(labels, words, strict=False)
    ]


def _describe_fit(estimator: Any) -> list[str]:
    """Say in a few words what ``fit`` has learned from."""
    facts = ["Fitted"]
    if hasattr(estimator, "shots_"):
        facts.append(_count_shots(estimator))
    if hasattr(estimator, "adapter_"):
        n_weights = sum(weight.numel() for weight in estimator.adapter_.values())
        facts[-1] = f"tuned on {facts[-1]}"
        facts.append(f"an adapter of {n_weights:,} weights")
    if not hasattr(estimator, "prompt_"):
        n_seeds = len(estimator.labeller_.members)
        facts.append(f"{n_seeds} seeds are averaged, and this is the prompt of the first")
    return facts


def _count_shots(estimator: Any) -> str:
    n_shots = len(estimator.shots_)
    if hasattr(estimator, "prompt_") and estimator.labeller_.shots_per_text is not None:
        return f"{estimator.n_shots} of {n_shots} rows stand solved in each text's own prompt"
    return f"{n_shots} shot{'' if n_shots == 1 else 's'}"
