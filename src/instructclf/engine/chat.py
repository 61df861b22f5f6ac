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

    The instruction and the first input make up the user's first message, each solved example is a
    message and its answer, and the prompt ends where the assistant begins to speak.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer with a chat template.

    Returns
    -------
    PromptTemplate
        The template.

    Raises
    ------
    InvalidTemplateError
        If the tokenizer has no chat template, or one that does not keep messages as they are.
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
    return PromptTemplate(
        f"{head}{{instruction}}{before_input}{{input}}{rest}{{response}}",
        demonstration_cue=demonstration_cue,
        demonstration_separator=separator,
    )


def _render(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # a template is a program and fails in any way it likes
        msg = f"The chat template of this tokenizer refuses a conversation of two turns: {error}"
        raise InvalidTemplateError(msg) from error
