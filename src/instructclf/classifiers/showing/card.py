"""An estimator → its picture in a notebook: scikit-learn's diagram, and what the model is asked.

Nothing of a base model is loaded for it, so that looking at an estimator costs nothing.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import estimator_html_repr
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.labels import check_label_words
from instructclf.classifiers.showing.card_html import Card, write_card
from instructclf.classifiers.showing.stretches import find_stretches
from instructclf.classifiers.writing import draft_prompt
from instructclf.exceptions import InstructClfError
from instructclf.prompts import CHAT, Prompt, PromptTemplate, get_template

_TEXT = "[the text]"
_WITH_WEIGHTS = ("adapter_",)


class CardShowing(metaclass=ABCMeta):
    """Base of estimators that show, below their diagram, labels and a preview of the prompt.

    Of data it shows the solved examples alone, and of weights nothing.
    """

    label_definitions: dict[Any, str] | None
    verbalizer: dict[Any, str | list[str]] | None
    instruction: str | None
    template: str | PromptTemplate

    def _html_repr(self) -> str:
        return estimator_html_repr(self) + write_card(self._describe_card())

    def _repr_html_inner(self) -> str:
        return self._html_repr()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        above: Any = super()
        bundle = above._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:  # before scikit-learn 1.7 this is the diagram alone
            bundle["text/html"] = self._html_repr()
        return bundle

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        above: Any = super()
        attributes = above._get_fitted_attr_html(doc_link)  # noqa: SLF001  (scikit-learn 1.9)
        for name in _WITH_WEIGHTS:
            attributes.pop(name, None)
        return attributes

    @abstractmethod
    def _stated_labels(self) -> list[Any] | None:
        """Return the labels that the prompt states, or ``None`` where only ``fit`` will know."""

    def _describe_card(self) -> Card:
        """Describe the fit, or before it, as far as they say, the parameters."""
        shown: Any = self
        if getattr(self, "_averages_predictions", False):
            shown = shown.estimators_[0]
        if not shown.__sklearn_is_fitted__():
            return self._describe_parameters()
        return Card(
            _describe_fit(self),
            self._tabulate(shown._stated_labels(), shown.label_words_),  # noqa: SLF001
            find_stretches(shown.prompt_, _TEXT, "", was_cut=False),
        )

    def _describe_parameters(self) -> Card:
        checked: Any = self
        try:
            checked._validate_params()  # noqa: SLF001  (of the estimator that this is a base of)
            labels = self._stated_labels()
            words = (("…",),)
            if labels is not None:
                words = check_label_words(np.array(labels), self.verbalizer)
            prompt = None if self.template == CHAT else self._draft(labels or [], words)
        except (InstructClfError, InvalidParameterError):  # fit will say what is wrong
            return Card(["Not fitted"], [], ())
        facts = ["Not fitted"]
        if labels is None:
            facts.append("the labels of y will stand in place of “…”")
        if prompt is None:
            facts.append("the template is the tokenizer's own")
        stretches = () if prompt is None else find_stretches(prompt, _TEXT, "", was_cut=False)
        return Card(facts, self._tabulate(labels or [], words), stretches)

    def _draft(self, labels: list[Any], words: Sequence[Sequence[str]]) -> Prompt:
        defined = self.label_definitions
        return draft_prompt(
            get_template(self.template),
            task=self.instruction,
            label_words=words,
            definitions=None if defined is None else [defined[label] for label in labels],
        )

    def _tabulate(
        self, labels: list[Any], words: Sequence[Sequence[str]]
    ) -> list[tuple[str, str, str]]:
        defined = self.label_definitions or {}
        return [
            (str(label), ", ".join(own), defined.get(label, ""))
            for label, own in zip(labels, words, strict=False)
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
    if getattr(estimator, "_averages_predictions", False):
        n_seeds = len(estimator.estimators_)
        facts.append(f"{n_seeds} seeds are averaged, and this is the prompt of the first")
    return facts


def _count_shots(estimator: Any) -> str:
    n_shots = len(estimator.shots_)
    if getattr(estimator, "_own_shots", None) is not None:
        return f"{estimator.n_shots} of {n_shots} rows stand solved in each text's own prompt"
    return f"{n_shots} shot{'' if n_shots == 1 else 's'}"
