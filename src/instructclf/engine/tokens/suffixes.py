"""Prompts that begin alike → the tokens of what differs: what they share is tokenised once.

A tokenizer may join the last characters of a shared beginning with the first of a text, so a prompt
must not be tokenised in two halves. Each is tokenised from some way before its text instead: if
the tokens there (the anchor) come out as they do in whole prompts, so do those after them.
"""

from __future__ import annotations

from collections.abc import Sequence

from instructclf.engine.tokens.tokenising import WholeStringTokeniser

_N_CHARACTERS = 200
"""How far before the text tokenising begins."""
_N_AGREEING = 8
"""Tokens of the anchor, its last, that must be those of whole prompts."""


class SuffixTokeniser:
    """Tokenise what comes after a shared beginning.

    Parameters
    ----------
    tokenise : WholeStringTokeniser
        Tokenises whole prompts.
    beginning : str
        The characters that all prompts begin with.
    prefix : list of int
        The tokens that all prompts begin with.
    probes : dict of str to list of int
        What comes after the beginning in some prompts, and the tokens of the whole prompts, to
        learn from.
    """

    def __init__(
        self,
        tokenise: WholeStringTokeniser,
        beginning: str,
        prefix: list[int],
        probes: dict[str, list[int]],
    ) -> None:
        self._tokenise = tokenise
        self._before = beginning[-_N_CHARACTERS:]
        gains = len(self._before) < len(beginning)
        self._anchor = self._find_anchor(prefix, probes) if gains else None

    def __call__(self, endings: Sequence[str]) -> list[list[int] | None]:
        """Return the tokens of each prompt after the shared ones.

        Parameters
        ----------
        endings : sequence of str
            What comes after the shared characters.

        Returns
        -------
        list of (list of int or None)
            ``None`` where only tokenising the whole prompt can tell.
        """
        anchor = self._anchor
        if anchor is None:
            return [None] * len(endings)
        n_anchor = len(anchor)
        return [
            ids[n_anchor:] if len(ids) > n_anchor and ids[:n_anchor] == anchor else None
            for ids in self._tokenise_ends(endings)
        ]

    def _find_anchor(self, prefix: list[int], probes: dict[str, list[int]]) -> list[int] | None:
        """Return the tokens between the start and the end of the prefix, if there is one answer."""
        anchors = []
        for ids, end in zip(probes.values(), self._tokenise_ends(list(probes)), strict=True):
            own = ids[len(prefix) :]
            if end[-len(own) :] != own:
                return None
            anchors.append(end[: -len(own)])
        first = anchors[0]
        if len(first) < _N_AGREEING or any(anchor != first for anchor in anchors):
            return None
        return first if first[-_N_AGREEING:] == prefix[-_N_AGREEING:] else None

    def _tokenise_ends(self, endings: Sequence[str]) -> list[list[int]]:
        return self._tokenise.without_start([self._before + ending for ending in endings])
