"""A prompt in parts: what each stretch of it is, known from how it was put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["template", "instruction", "definitions", "shot", "answer", "text", "cue", "label"]
"""What a part of a prompt is."""


@dataclass(frozen=True)
class PromptPart:
    """A stretch of a prompt that is all of one kind.

    Parameters
    ----------
    role : str
        What it is: ``"template"`` for fixed text, ``"instruction"``, ``"definitions"`` of labels,
        ``"shot"`` for the text of a solved example and ``"answer"`` for its label words, ``"text"``
        for the text to classify, ``"cue"`` for what comes after it, and ``"label"``.
    text : str
        The very characters of the prompt.
    source : str
        The same before markers in it were broken up.
    """

    role: Role
    text: str
    source: str

    def split(self, *positions: int) -> list[PromptPart]:
        """Return this part cut into several.

        Parameters
        ----------
        *positions : int
            Where to cut, counted in characters of ``source``, ascending.

        Returns
        -------
        list of PromptPart
            Parts of the same role, one more than positions, none of which need have any text.
        """
        starts, ends = [0, *positions], [*positions, len(self.source)]
        places = [_place(self, position) for position in starts] + [len(self.text)]
        return [
            PromptPart(self.role, self.text[places[i] : places[i + 1]], self.source[start:end])
            for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]


def _place(part: PromptPart, position: int) -> int:
    """Return where a character of the source stands in the text, which has more breakers at most.

    Of the odd character that was replaced to be broken up, what follows on it counts as its own.
    """
    n_found = place = 0
    while n_found < position and place < len(part.text):
        n_found += part.text[place] == part.source[n_found]
        place += 1
    return place
