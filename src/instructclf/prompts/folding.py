"""Text → the form that a tokenizer may reduce it to.

Tokenizers normalise: they may replace compatibility characters (such as full-width letters) by
ordinary ones, lower the case, strip accents and drop invisible characters. A marker written in such
characters is an ordinary marker by the time the model reads it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_METASPACE = "▁"
"""SentencePiece writes a space like this, and treats both characters alike."""
_DROPPED = frozenset({"Mn", "Me", "Cf", "Cc", "Cs"})
"""Unicode categories that normalisers drop: combining marks and invisible characters."""


class _Folds(dict[int, str]):
    """The fold of each character seen so far."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _fold_character(chr(code))
        return folded


_folds = _Folds()


def fold(text: str) -> str:
    r"""Return the simplest form that a tokenizer may reduce a text to.

    It is in lower case, without accents, invisible characters and compatibility forms.

    Examples
    --------
    >>> fold("\N{FULLWIDTH NUMBER SIGN}## Re\u0301spon\u200bse:")
    '### response:'
    """
    return text.translate(_folds)


def insert(text: str, positions: Sequence[int], breaker: str) -> str:
    """Insert a string into a text at positions of its fold, ascending and above 0.

    A character whose fold contains a position is replaced by its fold instead; the caller then
    finds the position again, now between two characters.
    """
    parts: list[str] = []
    remaining = iter([*positions, -1])
    position, end = next(remaining), 0
    for character in text:
        folded = _folds[ord(character)]
        end += len(folded)
        parts.append(character)
        while 0 < position <= end:
            if position == end:
                parts.append(breaker)
            else:
                parts[-1] = folded
            position = next(remaining)
    return "".join(parts)


def _fold_character(character: str) -> str:
    if character == _METASPACE:
        return " "
    if character.isspace():
        return character
    decomposed = unicodedata.normalize("NFKD", character)
    return "".join(c for c in decomposed if unicodedata.category(c) not in _DROPPED).casefold()
