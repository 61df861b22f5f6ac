"""Template: fixed text around an instruction, an input and a response.

The template is split at its three placeholders and the parts are concatenated, so braces in an
instruction, a definition or a text are never taken for a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from instructclf.exceptions import InvalidTemplateError
from instructclf.prompts.parts import Role

_PLACEHOLDER = re.compile(r"\{(instruction|input|response)\}")
_TAG = re.compile(r"<<[^<>\s]+>>|<[^<>\s]+>|\[[^\[\]\s]+\]")


@dataclass(frozen=True)
class PromptTemplate:
    r"""Fixed text around an instruction, an input and the response to it.

    Parameters
    ----------
    text : str
        The template, with ``{instruction}``, ``{input}`` and ``{response}`` each exactly once and
        in this order, ending with ``{response}``. Any other brace is literal text.
    text_without_input : str or None, default=None
        The template for an instruction that has no input, with ``{instruction}`` and
        ``{response}``. Needed only to render without an input.
    demonstration_cue : str or None, default=None
        The text between the input and the response of a solved example. ``None`` takes the text
        between ``{input}`` and ``{response}``.
    demonstration_separator : str or None, default=None
        The text between the response of a solved example and the next input. ``None`` takes the
        text between ``{instruction}`` and ``{input}``.
    end_token : str or None, default=None
        The token with which the model ends a response, such as ``"<|im_end|>"``. ``None`` takes the
        end token of the tokenizer.

    Raises
    ------
    InvalidTemplateError
        If a placeholder is missing, repeated or out of order, or if text follows ``{response}``.

    Examples
    --------
    >>> template = PromptTemplate("{instruction}\n\nReview: {input}\nVerdict: {response}")
    >>> print(template.render("Good or bad?", "I {heart} it.", [("Meh.", "bad")]))
    Good or bad?
    <BLANKLINE>
    Review: Meh.
    Verdict: bad
    <BLANKLINE>
    Review: I {heart} it.
    Verdict:
    """

    text: str
    text_without_input: str | None = None
    demonstration_cue: str | None = None
    demonstration_separator: str | None = None
    end_token: str | None = None

    def __post_init__(self) -> None:
        _split(self.text, ("instruction", "input", "response"))
        if self.text_without_input is not None:
            _split(self.text_without_input, ("instruction", "response"))

    @property
    def markers(self) -> tuple[str, ...]:
        """The strings that a text could imitate: fixed lines next to a placeholder, and tags.

        Lines are stripped, but a role in the middle of a line, as in
        ``{input} ASSISTANT: {response}``, keeps the space before it. Tags are words in brackets
        (``[INST]``) anywhere in the template.
        """
        head, before_input, cue = self._segments
        between = (self.demonstration_cue or "", self.demonstration_separator or "")
        lines = [line.strip() for line in head.rpartition("\n\n")[2].splitlines()]
        for block in (before_input, cue, *between):
            first, *others = block.splitlines() or [""]
            lines += [_mark_role(first.strip()), *map(str.strip, others)]
        tags = _TAG.findall("\n".join([head, before_input, cue, *between]))
        return tuple(dict.fromkeys(line for line in [*lines, *tags] if line))

    def render(
        self,
        instruction: str,
        text: str | None = None,
        demonstrations: Sequence[tuple[str, str]] = (),
        *,
        response: str = "",
    ) -> str:
        """Put an instruction, solved examples and an input into the template.

        Parameters
        ----------
        instruction : str
            The task.
        text : str or None, default=None
            The input. ``None`` renders the template without an input; an empty text is an input.
        demonstrations : sequence of (str, str), default=()
            Solved examples, pairs of an input and its response, in the order of the prompt.
        response : str, default=""
            The response. If it is empty, the prompt ends with the cue.

        Returns
        -------
        str
            The prompt.

        Raises
        ------
        InvalidTemplateError
            If there is no input and the template has no ``text_without_input``.
        """
        if text is None:
            return self._render_without_input(instruction, response)
        before = [piece for _, piece in self.pieces(instruction, demonstrations)]
        return "".join([*before, text, self.cue, response])

    def pieces(
        self, instruction: str, demonstrations: Sequence[tuple[str, str]] = ()
    ) -> list[tuple[Role, str]]:
        """Return the text before an input, piece by piece.

        Parameters
        ----------
        instruction : str
            The task.
        demonstrations : sequence of (str, str), default=()
            Solved examples, pairs of an input and its response, in the order of the prompt.

        Returns
        -------
        list of (str, str)
            The role and the text of each piece.
        """
        head, before_input, cue = self._segments
        solved_cue = cue if self.demonstration_cue is None else self.demonstration_cue
        separator = self.demonstration_separator
        separator = before_input if separator is None else separator
        pieces: list[tuple[Role, str]] = [
            ("template", head),
            ("instruction", instruction),
            ("template", before_input),
        ]
        for text, response in demonstrations:
            solved: list[tuple[Role, str]] = [
                ("shot", text),
                ("template", solved_cue),
                ("answer", response),
                ("template", separator),
            ]
            pieces += solved
        return pieces

    @property
    def cue(self) -> str:
        """The text between an input and its response."""
        return self._segments[2]

    @property
    def borders(self) -> list[tuple[str, str, str]]:
        """The name of everything that is filled in, with the text before and after it."""
        head, before_input, cue = self._segments
        solved_cue, separator = self.demonstration_cue, self.demonstration_separator
        return [
            ("{instruction}", head, before_input),
            ("{input}", before_input, cue),
            (
                "the text of a solved example",
                before_input if separator is None else separator,
                cue if solved_cue is None else solved_cue,
            ),
        ]

    @property
    def _segments(self) -> list[str]:
        return _split(self.text, ("instruction", "input", "response"))

    def _render_without_input(self, instruction: str, response: str) -> str:
        if self.text_without_input is None:
            msg = "This template has no form without an input: pass text_without_input to it."
            raise InvalidTemplateError(msg)
        head, cue = _split(self.text_without_input, ("instruction", "response"))
        return "".join([head, instruction, cue, response])


def _mark_role(fixed: str) -> str:
    """Put a space before a role (``Verdict:``), which texts may imitate anywhere in a line."""
    is_role = bool(fixed) and fixed[0].isalpha() and not fixed[-1].isalnum()
    return f" {fixed}" if is_role else fixed


def _split(text: str, names: tuple[str, ...]) -> list[str]:
    """Return the fixed text before each placeholder; raise if they are not ``names`` in order."""
    found = tuple(_PLACEHOLDER.findall(text))
    if found != names:
        expected = ", ".join(f"{{{name}}}" for name in names)
        got = ", ".join(f"{{{name}}}" for name in found) or "none"
        msg = (
            f"A prompt template needs the placeholders {expected}, each once and in this order. "
            f"Got {got} in {text!r}."
        )
        raise InvalidTemplateError(msg)
    *segments, tail = _PLACEHOLDER.split(text)[::2]
    if tail:
        msg = f"A prompt template ends with {{response}}. Got {tail!r} after it; remove that text."
        raise InvalidTemplateError(msg)
    return segments
