"""A prompt in parts → the prompt with every part named, as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instructclf.classifiers.showing.characters import LINE_BREAK, without_controls
from instructclf.classifiers.showing.prompt_html import write_prompt
from instructclf.classifiers.showing.stretches import Stretch, find_stretches
from instructclf.engine.interfaces import FilledPrompt
from instructclf.engine.tokens.truncation import find_cut

_GUTTER = " │ "


def look_at_prompt(
    filled: FilledPrompt, text: str, words: str, max_length: int | None
) -> ShownPrompt:
    """Return the prompt of a text, to be shown."""
    was_cut = filled.text != text
    stretches = find_stretches(filled.prompt, filled.text, words, was_cut=was_cut)
    most = "" if max_length is None else f" of at most {max_length}"
    notes = [f"{filled.n_tokens} tokens{most}, the label aside."]
    if was_cut:
        start, end = find_cut(filled.text)
        n_left_out = len(text) - len(filled.text) + end - start
        notes.append(
            f"The text was too long: {n_left_out} of its {len(text)} characters were left out."
        )
    return ShownPrompt(stretches, tuple(notes))


@dataclass(frozen=True)
class ShownPrompt:
    """The prompt of one text as the model reads it, with what each stretch of it is.

    Printed, each stretch stands beside its name, and ``↵`` is where the prompt has a line break: a
    stretch that ends without one goes on in the same line. In a notebook the stretches are
    coloured.

    Parameters
    ----------
    stretches : tuple of Stretch
        The prompt. Joined, their texts are what ``get_prompt`` returns.
    notes : tuple of str
        What there is to say about it, such as how many tokens it takes.
    """

    stretches: tuple[Stretch, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        width = max(len(own.name) for own in self.stretches)
        lines = [line for own in self.stretches for line in _write_lines(own, width)]
        return "\n".join([*lines, "", *self.notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return write_prompt(self.stretches, self.notes)


def _write_lines(stretch: Stretch, width: int) -> list[str]:
    """Return a stretch line by line, its name beside the first."""
    lines = without_controls(stretch.text).split("\n")
    ended = [f"{line}{LINE_BREAK}" for line in lines[:-1]] + lines[-1:]
    shown = ended if ended[-1] else ended[:-1]
    names: Sequence[str] = [stretch.name, *[""] * (len(shown) - 1)]
    return [f"{name:<{width}}{_GUTTER}{line}" for name, line in zip(names, shown, strict=True)]
