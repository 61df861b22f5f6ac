"""Label words, a template and a base model → the prompt, as yet without demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from instructclf.engine.models.loading import BaseModel
from instructclf.engine.tokens.chat import chat_template
from instructclf.engine.tokens.tokenising import control_strings, find_breaker
from instructclf.engine.tokens.verbalizers import Verbalizer
from instructclf.exceptions import InvalidLabelsError, InvalidTemplateError, PromptTooLongError
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
    """Return the template of this name, or ``None`` for the tokenizer's own.

    Parameters
    ----------
    template : str or PromptTemplate
        A name or a template.

    Returns
    -------
    PromptTemplate or None
        The template. What a tokenizer's own is, only a base model can say.

    Raises
    ------
    InvalidTemplateError
        If there is no such template.
    """
    return None if template == CHAT else get_template(template)


def write_prompt(
    base: BaseModel,
    template: PromptTemplate | None,
    *,
    task: str | None,
    label_words: Sequence[Sequence[str]],
    definitions: Sequence[str] | None,
    order: Sequence[int],
) -> Prompt:
    """Write the prompt, without demonstrations.

    Parameters
    ----------
    base : BaseModel
        Whose tokenizer reads it.
    template : PromptTemplate or None
        What stands around instruction and text. ``None`` takes the tokenizer's own.
    task : str or None
        The task in the user's words. ``None`` asks to classify the input.
    label_words : sequence of sequence of str
        The answers of each class, the one that is stated first. None, and no label is stated.
    definitions : sequence of str or None
        What each class means.
    order : sequence of int
        In which order the classes are stated.

    Returns
    -------
    Prompt
        The prompt.

    Raises
    ------
    InvalidTextsError
        If a part of it has a lone surrogate.
    InvalidLabelsError
        If words could be read as a marker of the template or a special token.
    InvalidTemplateError
        If the tokenizer is to bring a template, and has none; or if a text could complete a
        special token that the template begins.
    """
    _check_encodable(task, label_words, definitions)
    frame = chat_template(base.tokenizer) if template is None else template
    draft = draft_prompt(
        frame,
        task=task,
        label_words=[label_words[i] for i in order],
        definitions=None if definitions is None else [definitions[i] for i in order],
    )
    prompt = replace(
        draft,
        control_strings=control_strings(base.tokenizer),
        breaker=find_breaker(base.tokenizer, frame.markers),
    )
    _check_borders(frame, prompt.control_strings)
    for answer in Verbalizer(label_words).answers:
        if prompt.as_data(answer) != answer:
            msg = (
                f"The label words {answer!r} contain a marker of the template or a special "
                "token of the model. Give other words in 'verbalizer'."
            )
            raise InvalidLabelsError(msg)
    return prompt


def _check_encodable(
    task: str | None, label_words: Sequence[Sequence[str]], definitions: Sequence[str] | None
) -> None:
    """Raise if what a user says has half of a character."""
    check_encodable("The instruction", task or "")
    for answers in label_words:
        for answer in answers:
            check_encodable(f"The label words {answer!r}", answer)
    for definition in definitions or ():
        check_encodable(f"The definition {definition!r}", definition)


def _check_borders(template: PromptTemplate, control_strings: Sequence[str]) -> None:
    """Raise if a text could make a special token together with the template beside it."""
    for place, before, after in template.borders:
        control = find_joined(before, after, control_strings)
        if control is not None:
            msg = (
                f"The template has {before[-10:]!r} before and {after[:10]!r} after {place}, of "
                f"which a text could make {control!r}, a special token of the model. Put spaces or "
                "line breaks in between."
            )
            raise InvalidTemplateError(msg)


def draft_prompt(
    template: PromptTemplate,
    *,
    task: str | None,
    label_words: Sequence[Sequence[str]],
    definitions: Sequence[str] | None,
) -> Prompt:
    """Write a prompt that no tokenizer has looked at.

    Parameters
    ----------
    template : PromptTemplate
        What stands around instruction and text.
    task : str or None
        The task in the user's words. ``None`` asks to classify the input.
    label_words : sequence of sequence of str
        The answers of each class, the one that is stated first. None, and no label is stated.
    definitions : sequence of str or None
        What each class means.

    Returns
    -------
    Prompt
        The prompt, with no special tokens to keep out of it.
    """
    words = [answers[0] for answers in label_words]
    return Prompt(
        template,
        write_instruction(task, words, definitions) if words else task or DEFAULT_TASK,
        definitions=define_labels(words, definitions) if definitions else "",
    )


def resolve_max_length(base: BaseModel, max_length: int | None) -> int | None:
    """Return the most tokens of a prompt with its label.

    Parameters
    ----------
    base : BaseModel
        Which has a context, or none that is known.
    max_length : int or None
        What the user set. ``None`` takes the model's context.

    Returns
    -------
    int or None
        The number, ``None`` for no limit.

    Raises
    ------
    PromptTooLongError
        If it is more than the model was made for.
    """
    context = base.context_length
    if max_length is None:
        return context
    if context is not None and max_length > context:
        msg = (
            f"max_length={max_length} is more than the {context} tokens that the model "
            f"{base.name!r} was made for. Set max_length to {context} or less, or to None."
        )
        raise PromptTooLongError(msg)
    return max_length
