"""Characters that nobody can see → characters that everybody can."""

from __future__ import annotations

import unicodedata

LINE_BREAK = "↵"
_GLYPHS = {" ": "␣", "\n": LINE_BREAK, "\t": "⇥", "\r": "␍"}
_BIDI_CLASSES = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Of characters that turn the direction of what comes after them."""


def without_controls(text: str) -> str:
    r"""Write control characters as escapes, but line breaks and tabs.

    They could clear a terminal, or turn the order of what stands beside them.

    Examples
    --------
    >>> print(without_controls("red: \x1b[31m"))
    red: \x1b[31m
    """
    return "".join(_escape(own) if _is_control(own) else own for own in text)


def with_glyphs(text: str) -> str:
    r"""Write white space as signs, and other control characters as escapes.

    Examples
    --------
    >>> with_glyphs(" positive\n")
    '␣positive↵'
    """
    return without_controls("".join(_GLYPHS.get(own, own) for own in text))


def _is_control(character: str) -> bool:
    if character in "\n\t":
        return False
    is_turning = unicodedata.bidirectional(character) in _BIDI_CLASSES
    return is_turning or unicodedata.category(character) == "Cc"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
