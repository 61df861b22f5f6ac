"""Tokenizer's chat template → prompt template: rendered with stand-ins, and split at them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from instructclf.engine.tokens.tokenising import control_strings
from instructclf.exceptions import InvalidTemplateError
from instructclf.prompts import PromptTemplate

_INSTRUCTION, _INPUT, _RESPONSE, _NEXT_INPUT, _REASONING = (
    f"stand-in-for-{name}"
    for name in ("instruction", "input", "response", "next-input", "reasoning")
)
_THOUGHT_TAG = re.compile(
    r"[<\[◁][^<>\[\]◁▷\s]*(?:think|thought|reasoning)[^<>\[\]◁▷\s]*[>\]▷]", re.IGNORECASE
)
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""The names that templates have for the thought of a message."""
_CLOSES_THOUGHT = re.compile(r"/|end|no_?think", re.IGNORECASE)


def chat_template(tokenizer: Any) -> PromptTemplate:
    """Return the tokenizer's own chat template as a prompt template.

    The user's first message holds the instruction and the first input. Each solved example is a
    message and its answer, and the prompt ends where the template puts an answer. The prompt has no
    system message, because some templates refuse one. Everything that a template adds by itself,
    such as the date, is fixed from here on. White space around a text is kept even where a template
    would strip it: a text is data.

    Raises
    ------
    InvalidTemplateError
        If the tokenizer has no chat template, or if its template changes messages, writes them
        differently depending on their number, or begins a thought that it cannot leave empty.
    """
    if not getattr(tokenizer, "chat_template", None):
        msg = (
            "template='chat' takes the tokenizer's chat template, and this tokenizer has none. Use "
            "template='alpaca', or a model with a chat template."
        )
        raise InvalidTemplateError(msg)
    rendered = _render(tokenizer, [f"{_INSTRUCTION}\n\n{_INPUT}", _RESPONSE, _NEXT_INPUT])
    segments, cue = [], rendered
    for stand_in in (_INSTRUCTION, _INPUT, _RESPONSE, _NEXT_INPUT):
        segment, found, cue = cue.partition(stand_in)
        if not found:
            msg = f"The chat template of this tokenizer leaves out a message. It gave {rendered!r}."
            raise InvalidTemplateError(msg)
        segments.append(segment)
    head, before_input, demonstration_cue, separator = segments
    before_answer, after_answer = _around_last_answer(tokenizer)
    answer_cue = _extend_cue(cue, before_answer)
    if _open_thought(answer_cue):
        answer_cue = _extend_cue(cue, _around_last_answer(tokenizer, _REASONING)[0])
    _check_no_open_thought(answer_cue)
    controls = control_strings(tokenizer)
    template = PromptTemplate(
        f"{head}{{instruction}}{before_input}{{input}}{answer_cue}{{response}}",
        demonstration_cue=demonstration_cue,
        demonstration_separator=separator,
        end_token=_first_of(controls, after_answer) or _first_of(controls, separator),
    )
    for n_solved in (0, 2):  # the template was made with one
        _check_same(tokenizer, template, n_solved, cue)
    return template


def _around_last_answer(tokenizer: Any, reasoning: str | None = None) -> tuple[str, str]:
    """Return what the template writes around an answer that ends a conversation.

    It may write more before it than its generation prompt has: a header, or a thought, from which
    ``reasoning`` is taken out again. Some templates refuse such a conversation.
    """
    try:
        rendered = _render(tokenizer, [_INPUT, _RESPONSE], generates=False, reasoning=reasoning)
    except InvalidTemplateError:
        return "", ""
    before, _, after = rendered.partition(_INPUT)[2].partition(_RESPONSE)
    return before.replace(_REASONING, ""), after


def _extend_cue(cue: str, before_answer: str) -> str:
    """Return the text before an answer if it continues the generation prompt visibly."""
    begun = cue.rstrip()
    continues = before_answer.startswith(begun) and before_answer[len(begun) :].strip()
    return before_answer if continues else cue


def _open_thought(cue: str) -> str | None:
    """Return the tag of a thought that is not closed, or ``None``."""
    tags = _THOUGHT_TAG.findall(cue)
    return tags[-1] if tags and not _CLOSES_THOUGHT.search(tags[-1]) else None


def _check_no_open_thought(cue: str) -> None:
    tag = _open_thought(cue)
    if tag is not None:
        msg = (
            f"The chat template of this tokenizer begins every answer with a thought ({tag!r}) and "
            "has no way to leave it empty, so labels would be scored inside the thought. Use "
            f"template='alpaca', your own PromptTemplate, or remove {tag!r} from the end of "
            "tokenizer.chat_template."
        )
        raise InvalidTemplateError(msg)


def _first_of(strings: Sequence[str], text: str) -> str | None:
    """Return the string that comes first in a text, the longest one of those at one position."""
    found = [(text.index(string), -len(string), string) for string in strings if string in text]
    return min(found)[-1] if found else None


def _check_same(tokenizer: Any, template: PromptTemplate, n_solved: int, cue: str) -> None:
    """Raise unless the template renders what the tokenizer does, with so many solved examples.

    ``cue`` is the tokenizer's generation prompt, which the template may continue.
    """
    solved = [(f"{_INPUT}-{i}", f"{_RESPONSE}-{i}") for i in range(n_solved)]
    contents = [content for example in solved for content in example] + [_NEXT_INPUT]
    contents[0] = f"{_INSTRUCTION}\n\n{contents[0]}"
    expected = _render(tokenizer, contents).removesuffix(cue) + template.cue
    found = template.render(_INSTRUCTION, _NEXT_INPUT, solved)
    if found != expected:
        msg = (
            "The chat template of this tokenizer depends on the number of turns, so it cannot be "
            f"used with demonstrations. With {n_solved} of them it gave {expected!r}, but "
            f"{found!r} was expected. Use template='alpaca' or your own PromptTemplate."
        )
        raise InvalidTemplateError(msg)


def _render(
    tokenizer: Any, contents: Sequence[str], *, generates: bool = True, reasoning: str | None = None
) -> str:
    """Render messages that alternate between user and assistant, without any thinking."""
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": content}
        for i, content in enumerate(contents)
    ]
    if reasoning is not None:
        messages[-1] |= dict.fromkeys(_REASONING_FIELDS, reasoning)
    try:
        return tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=generates,
            enable_thinking=False,
            thinking=False,
        )
    except Exception as error:  # a template is a program and may raise anything
        msg = f"The chat template of this tokenizer refuses a conversation: {error}"
        raise InvalidTemplateError(msg) from error
