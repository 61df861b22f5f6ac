"""The parts of a prompt: each stretch of text with its role, recorded while rendering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["template", "instruction", "definitions", "shot", "answer", "text", "cue", "label"]
"""The role of a part of a prompt."""


@dataclass(frozen=True)
class PromptPart:
    """A stretch of a prompt that has one role.

    Parameters
    ----------
    role : str
        ``"template"`` for fixed text, ``"instruction"``, ``"definitions"`` of labels, ``"shot"``
        for the text of a solved example and ``"answer"`` for its label words, ``"text"`` for the
        text to classify, ``"cue"`` for the fixed text after it, and ``"label"``.
    text : str
        The exact characters of the prompt.
    source : str
        The same text before its markers were broken up.
    """

    role: Role
    text: str
    source: str

    def split(self, *positions: int) -> list[PromptPart]:
        """Split this part into several.

        Parameters
        ----------
        *positions : int
            The positions in ``source`` at which to split, ascending.

        Returns
        -------
        list of PromptPart
            Parts of the same role, one more than positions. Some may be empty.
        """
        starts, ends = [0, *positions], [*positions, len(self.source)]
        bounds = [self._position_in_text(start) for start in starts] + [len(self.text)]
        return [
            PromptPart(self.role, self.text[bounds[i] : bounds[i + 1]], self.source[start:end])
            for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]

    def _position_in_text(self, position: int) -> int:
        """Convert a position in the source into one in the text, which may have extra breakers.

        From a character that was replaced by its fold, the rest of the text counts as one stretch.
        """
        n_found = in_text = 0
        while n_found < position and in_text < len(self.text):
            n_found += self.text[in_text] == self.source[n_found]
            in_text += 1
        return in_text
