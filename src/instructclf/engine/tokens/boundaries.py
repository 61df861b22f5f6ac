"""Where prompts end and labels begin, in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Boundary:
    """How the labels' tokens follow a prompt whose last tokens are ``cue``.

    Parameters
    ----------
    n_dropped : int
        How many of the prompt's last tokens the labels change. These belong to the labels.
    continuations : tuple of tuple of int
        The tokens of each label.
    cue : tuple of int
        The prompt's last tokens.
    """

    n_dropped: int
    continuations: tuple[tuple[int, ...], ...]
    cue: tuple[int, ...]

    def holds_for(self, prefix: Sequence[int], tail: list[int]) -> bool:
        """Say whether the labels follow a prompt of these tokens in the same way."""
        n_cue = len(self.cue)
        ids = tail if len(tail) >= n_cue else [*prefix, *tail]
        return n_cue > self.n_dropped and tuple(ids[-n_cue:]) == self.cue
