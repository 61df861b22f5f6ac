"""Tokenizer's chat template → prompt template: rendered once with stand-ins, and split at them."""

from __future__ import annotations

from typing import Any

from instructclf.exceptions import InvalidTemplateError
from instructclf.prompts import PromptTemplate

_INSTRUCTION, _INPUT, _RESPONSE, _NEXT_INPUT = (
    f"stand-in-for-{name}" for name in ("instruction", "input", "response", "next-input")
)


def chat_template(tokenizer: Any) -> PromptTemplate:
    """Return the tokenizer's own chat template as a prompt template.

    The user's first message holds the instruction and the first input. Each solved example is a
    message and its answer, and the prompt ends where the assistant begins to speak. The prompt has
    no system message, because some templates refuse one. Everything that a template adds by itself,
    such as the date, is fixed from here on. White space around a text is kept even where a template
    would strip it: a text is data.

    Raises
    ------
    InvalidTemplateError
        If the tokenizer has no chat template, or if its template changes messages, or writes them
        differently depending on their number.
    """
    if not getattr(tokenizer, "chat_template", None):
        msg = (
            "template='chat' takes the tokenizer's chat template, and this tokenizer has none. Use "
            "template='alpaca', or a model with a chat template."
        )
        raise InvalidTemplateError(msg)
    messages = [
        {"role": "user", "content": f"{_INSTRUCTION}\n\n{_INPUT}"},
        {"role": "assistant", "content": _RESPONSE},
        {"role": "user", "content": _NEXT_INPUT},
    ]
    rendered = _render(tokenizer, messages)
    segments, rest = [], rendered
    for stand_in in (_INSTRUCTION, _INPUT, _RESPONSE, _NEXT_INPUT):
        segment, found, rest = rest.partition(stand_in)
        if not found:
            msg = f"The chat template of this tokenizer leaves out a message. It gave {rendered!r}."
            raise InvalidTemplateError(msg)
        segments.append(segment)
    head, before_input, demonstration_cue, separator = segments
    template = PromptTemplate(
        f"{head}{{instruction}}{before_input}{{input}}{rest}{{response}}",
        demonstration_cue=demonstration_cue,
        demonstration_separator=separator,
    )
    for n_solved in (0, 2):  # the template was made with one
        _check_same(tokenizer, template, n_solved)
    return template


def _check_same(tokenizer: Any, template: PromptTemplate, n_solved: int) -> None:
    """Raise unless the template renders what the tokenizer does, with so many solved examples."""
    solved = [(f"{_INPUT}-{i}", f"{_RESPONSE}-{i}") for i in range(n_solved)]
    contents = [content for example in solved for content in example] + [_NEXT_INPUT]
    contents[0] = f"{_INSTRUCTION}\n\n{contents[0]}"
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    expected = _render(tokenizer, messages)
    found = template.render(_INSTRUCTION, _NEXT_INPUT, solved)
    if found != expected:
        msg = (
            "The chat template of this tokenizer depends on the number of turns, so it cannot be "
            f"used with demonstrations. With {n_solved} of them it gave {expected!r}, but "
            f"{found!r} was expected. Use template='alpaca' or your own PromptTemplate."
        )
        raise InvalidTemplateError(msg)


def _render(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # a template is a program and may raise anything
        msg = f"The chat template of this tokenizer refuses a conversation: {error}"
        raise InvalidTemplateError(msg) from error
