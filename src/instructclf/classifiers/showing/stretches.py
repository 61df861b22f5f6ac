"""Parts of a prompt → stretches with a name each, and a stretch of its own where a text was cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from instructclf.engine.tokens.truncation import find_cut
from instructclf.prompts import Prompt, PromptPart

CUT = "cut"
"""The kind of what stands in place of characters that were left out."""


@dataclass(frozen=True)
class Stretch:
    """Characters of a prompt that are all of one kind.

    Parameters
    ----------
    kind : str
        The role of a part of a prompt, such as ``"shot"``, or ``"cut"`` for the sign that stands
        where a text was cut.
    name : str
        The kind in words, with a number where there are several.
    text : str
        The very characters of the prompt.
    """

    kind: str
    name: str
    text: str


def find_stretches(
    prompt: Prompt, text: str, response: str, *, was_cut: bool
) -> tuple[Stretch, ...]:
    """Return a prompt as named stretches."""
    n_seen: Counter[str] = Counter()
    stretches: list[Stretch] = []
    for part in prompt.parts(text, response):
        is_cut = was_cut if part.role == "text" else _is_cut(prompt, part, n_seen["shot"])
        n_seen[part.role] += 1
        number = f" {n_seen[part.role]}" if part.role in {"shot", "answer"} else ""
        stretches += _part_cut(part, f"{part.role}{number}") if is_cut else [_whole(part, number)]
    return tuple(own for own in stretches if own.text)


def _is_cut(prompt: Prompt, part: PromptPart, n_shots_before: int) -> bool:
    return part.role == "shot" and n_shots_before in prompt.cut_demonstrations


def _whole(part: PromptPart, number: str) -> Stretch:
    return Stretch(part.role, f"{part.role}{number}", part.text)


def _part_cut(part: PromptPart, name: str) -> list[Stretch]:
    first, sign, last = part.split(*find_cut(part.source))
    return [
        Stretch(part.role, name, first.text),
        Stretch(CUT, CUT, sign.text),
        Stretch(part.role, name, last.text),
    ]
