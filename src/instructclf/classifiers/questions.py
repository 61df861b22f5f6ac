"""Label words, a template and a language model → the question, without demonstrations yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instructclf.engine.interfaces import LanguageModel, Question
from instructclf.exceptions import (
    InvalidLabelsError,
    InvalidTemplateError,
    PromptTooLongError,
    ScoringError,
)
from instructclf.inputs.texts import check_encodable
from instructclf.prompts import (
    CHAT,
    Prompt,
    PromptTemplate,
    define_labels,
    get_template,
    write_instruction,
)
from instructclf.prompts.instructions import DEFAULT_TASK
from instructclf.prompts.neutralising import find_joined


def find_template(template: str | PromptTemplate) -> PromptTemplate | None:
    """Return the template of this name, or ``None`` for the model's chat template.

    The chat template is known only once the model is open.

    Raises
    ------
    InvalidTemplateError
        If there is no such template.
    """
    return None if template == CHAT else get_template(template)


def write_question(
    model: LanguageModel,
    template: PromptTemplate | None,
    *,
    task: str | None,
    labels: Sequence[Any],
    label_words: tuple[tuple[str, ...], ...],
    definitions: Mapping[Any, str] | None,
    max_length: int | None,
    order: Sequence[int] | None = None,
    is_unordered: bool = False,
) -> Question:
    """Write the question, without demonstrations. Without label words it states no labels.

    A template of ``None`` takes the model's chat template, a maximum length of ``None`` the model's
    context. ``order`` says in which order labels are stated, unless the model reads them unordered.

    Raises
    ------
    InvalidTextsError
        If a part of the prompt has a lone surrogate.
    InvalidLabelsError
        If words could be read as a marker of the template or a special token.
    InvalidTemplateError
        If the model should bring a template and has none, or if a text could complete a special
        token that the template begins.
    PromptTooLongError
        If ``max_length`` is more than the model was made for.
    ScoringError
        If the model would read unordered labels as a list.
    """
    defined = None if definitions is None else [definitions[label] for label in labels]
    _check_encodable(task, label_words, defined)
    if is_unordered:
        _check_side_by_side(model)
    stated = range(len(label_words)) if order is None else order
    frame = model.chat_template() if template is None else template
    draft = draft_prompt(
        frame,
        task=task,
        label_words=[label_words[i] for i in stated],
        definitions=None if defined is None else [defined[i] for i in stated],
        is_unordered=is_unordered,
    )
    prompt = model.protect(draft)
    _check_borders(frame, prompt.control_strings)
    _check_answers(prompt, label_words)
    return Question(prompt, label_words, _resolve_max_length(model, max_length))


def restate(
    question: Question,
    *,
    task: str | None,
    definitions: Sequence[str] | None,
    order: Sequence[int],
) -> Question:
    """Return the same question with its labels, and their definitions, stated in another order."""
    draft = draft_prompt(
        question.prompt.template,
        task=task,
        label_words=[question.label_words[i] for i in order],
        definitions=None if definitions is None else [definitions[i] for i in order],
        is_unordered=bool(question.prompt.alternatives),
    )
    prompt = replace(
        question.prompt,
        instruction=draft.instruction,
        definitions=draft.definitions,
        alternatives=draft.alternatives,
    )
    return replace(question, prompt=prompt)


def draft_prompt(
    template: PromptTemplate,
    *,
    task: str | None,
    label_words: Sequence[Sequence[str]],
    definitions: Sequence[str] | None,
    is_unordered: bool = False,
) -> Prompt:
    """Write a prompt that no language model has seen."""
    words = [answers[0] for answers in label_words]
    return Prompt(
        template,
        write_instruction(task, words, definitions) if words else task or DEFAULT_TASK,
        definitions=define_labels(words, definitions) if definitions else "",
        alternatives=_write_alternatives(task, words, definitions) if is_unordered else (),
    )


def _write_alternatives(
    task: str | None, words: Sequence[str], definitions: Sequence[str] | None
) -> tuple[str, ...]:
    """Write an instruction for each label that states no other."""
    return tuple(
        write_instruction(task, [own], None if definitions is None else [definitions[place]])
        for place, own in enumerate(words)
    )


def _check_side_by_side(model: LanguageModel) -> None:
    """Raise unless the model reads alternatives: an engine may not know them, and read the list."""
    if not getattr(model, "reads_side_by_side", False):
        msg = (
            f"The model {model.name!r} cannot read labels side by side (label_order='unordered'): "
            "only decoders that this package runs itself do. Use label_order='cyclic' with several "
            "seeds."
        )
        raise ScoringError(msg)


def _check_encodable(
    task: str | None, label_words: Sequence[Sequence[str]], definitions: Sequence[str] | None
) -> None:
    """Raise if half of a character stands in what a user wrote."""
    check_encodable("The instruction", task or "")
    for answers in label_words:
        for answer in answers:
            check_encodable(f"The label words {answer!r}", answer)
    for definition in definitions or ():
        check_encodable(f"The definition {definition!r}", definition)


def _check_borders(template: PromptTemplate, control_strings: Sequence[str]) -> None:
    """Raise if a text could form a special token together with the template next to it."""
    for field, before, after in template.borders:
        control = find_joined(before, after, control_strings)
        if control is not None:
            msg = (
                f"The template has {before[-10:]!r} before and {after[:10]!r} after {field}, of "
                f"which a text could make {control!r}, a special token of the model. Put spaces or "
                "line breaks in between."
            )
            raise InvalidTemplateError(msg)


def _check_answers(prompt: Prompt, label_words: Sequence[Sequence[str]]) -> None:
    """Raise if an answer would change in the prompt, as text that looks like a marker does."""
    for answer in (answer for answers in label_words for answer in answers):
        if prompt.as_data(answer) != answer:
            msg = (
                f"The label words {answer!r} contain a marker of the template or a special "
                "token of the model. Give other words in 'verbalizer'."
            )
            raise InvalidLabelsError(msg)


def _resolve_max_length(model: LanguageModel, max_length: int | None) -> int | None:
    context = model.context_length
    if max_length is None:
        return context
    if context is not None and max_length > context:
        msg = (
            f"max_length={max_length} is more than the {context} tokens that the model "
            f"{model.name!r} was made for: its context, or its tokenizer's model_max_length if it "
            f"is smaller. Set max_length to {context} or less, or to None."
        )
        raise PromptTooLongError(msg)
    return max_length
