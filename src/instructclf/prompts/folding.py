"""Characters → what tokenizers may make of them: one form for all that can come out the same.

Tokenizers normalise: they may change compatibility characters into plain ones (full-width letters
into letters), lower the case, take accents away, and drop what cannot be seen. A marker written in
such characters is a marker by the time a model reads it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_METASPACE = "▁"
"""What SentencePiece has for a space, and does not tell from one."""
_DROPPED = frozenset({"Mn", "Me", "Cf", "Cc", "Cs"})
"""Categories that normalisers drop: marks on other characters, and what cannot be seen."""


class _Folds(dict[int, str]):
    """The fold of each character that was met."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _fold_character(chr(code))
        return folded


_folds = _Folds()


def fold(text: str) -> str:
    r"""Return a text as the plainest of the texts that a tokenizer may take it for.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text in lower case, without accents, invisible characters and compatibility forms.

    Examples
    --------
    >>> fold("\N{FULLWIDTH NUMBER SIGN}## Re\u0301spon\u200bse:")
    '### response:'
    """
    return text.translate(_folds)


def insert(text: str, places: Sequence[int], breaker: str) -> str:
    """Put something between characters of a text, at places of its fold.

    Parameters
    ----------
    text : str
        The text.
    places : sequence of int
        Where, counted in characters of ``fold(text)``, ascending and above 0.
    breaker : str
        What to put there.

    Returns
    -------
    str
        The text with as many breakers. Where a place is inside of what one character folds to,
        that character is replaced by its fold instead, so that the next time there is one.
    """
    parts: list[str] = []
    waiting = iter([*places, -1])
    place, end = next(waiting), 0
    for character in text:
        folded = _folds[ord(character)]
        end += len(folded)
        parts.append(character)
        while 0 < place <= end:
            if place == end:
                parts.append(breaker)
            else:
                parts[-1] = folded
            place = next(waiting)
    return "".join(parts)


def _fold_character(character: str) -> str:
    if character == _METASPACE:
        return " "
    if character.isspace():
        return character
    apart = unicodedata.normalize("NFKD", character)
    kept = (own for own in apart if unicodedata.category(own) not in _DROPPED)
    return "".join(kept).casefold()
