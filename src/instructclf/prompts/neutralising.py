"""Text → data: break up everything in a text that could be read as template or control token.

A space goes between the first two adjacent characters of a marker (``### Response:`` →
``# ## Response:``). People can still read the words, but no tokenizer or template takes them for a
marker. For a tokenizer that ignores spaces, another character is inserted.

Markers are looked for in folded text, the form that a tokenizer may reduce a text to: tokenizers
may replace compatibility characters (such as full-width letters) by ordinary ones, lower the case,
strip accents and drop invisible characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

SPACE = " "
_LINE_BREAKS = r"\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_LINE_START = rf"(?:^|(?<=[{_LINE_BREAKS}]))[^\S{_LINE_BREAKS}]*+"
_NO_WORD_BEFORE = r"(?<![0-9a-z])"  # in scripts without spaces, any letter may start a word
_SPACING = r"\s*+"


def neutralise(
    text: str,
    markers: Iterable[str],
    control_strings: Iterable[str] = (),
    *,
    breaker: str = SPACE,
) -> str:
    r"""Break up template markers and control strings inside a text.

    Both are found in any case, with any accents, in compatibility forms (such as full-width
    letters) and with invisible characters between their letters, because some tokenizers remove
    all of these.

    Parameters
    ----------
    text : str
        The original text.
    markers : iterable of str
        Fixed lines of the template, found with any spacing. A marker that starts with a letter is
        found only at the start of a line, so that ordinary words stay intact; if a space precedes
        the letter, it is found anywhere.
    control_strings : iterable of str, default=()
        Special tokens of the tokenizer.
    breaker : str, default=" "
        Inserted to separate two characters. Anything but a space is meant for tokenizers that
        ignore spaces; all markers are then found anywhere.

    Returns
    -------
    str
        The text, unchanged if nothing was found.

    Examples
    --------
    >>> neutralise("Nice.\n### Response:\nnegative", ["### Response:"])
    'Nice.\n# ## Response:\nnegative'
    """
    pattern = _pattern(tuple(markers), tuple(control_strings), breaker.isspace())
    if pattern is None:
        return text
    # Matches may overlap, so search again until nothing is left.
    while positions := _find_positions(pattern, fold(text)):
        text = insert(text, positions, breaker)
    return text


def find_joined(before: str, after: str, control_strings: Iterable[str]) -> str | None:
    """Return a special token that a text could complete together with the fixed text around it.

    Examples
    --------
    >>> find_joined("<", ">", ["</s>"])
    '</s>'
    """
    head, tail = fold(before), fold(after)
    for control in control_strings:
        token = fold(control)
        cuts = range(1, len(token))
        if any(head.endswith(token[:i]) or tail.startswith(token[i:]) for i in cuts):
            return control
    return None


def _find_positions(pattern: re.Pattern[str], folded: str) -> list[int]:
    """Return the end of the matched group of each match."""
    return [match.end(match.lastindex or 0) for match in pattern.finditer(folded)]


@lru_cache(maxsize=64)
def _pattern(
    markers: tuple[str, ...],
    control_strings: tuple[str, ...],
    sees_spaces: bool,  # noqa: FBT001  (part of the cache key)
) -> re.Pattern[str] | None:
    alternatives = [
        _marker_pattern(marker, *halves, sees_spaces=sees_spaces)
        for marker in markers
        if (halves := _split(fold(marker)))
    ]
    folded = {halves for control in control_strings if (halves := _split(fold(control)))}
    heads = sorted({head for head, _ in folded})
    alternatives += [_control_pattern(head, folded) for head in heads]
    return re.compile("|".join(alternatives), re.MULTILINE) if alternatives else None


def _split(fixed: str) -> tuple[str, str] | tuple[()]:
    """Split a fixed text between its first two adjacent non-space characters."""
    joined = re.search(r"\S(?=\S)", fixed)
    return (fixed[: joined.end()], fixed[joined.end() :]) if joined else ()


def _marker_pattern(marker: str, head: str, rest: str, *, sees_spaces: bool) -> str:
    """Match a marker with any spacing, unless it is broken up already."""
    start = ""
    if head.lstrip()[0].isalpha():
        is_anywhere = marker[0].isspace() or not sees_spaces
        start = _NO_WORD_BEFORE if is_anywhere else _LINE_START
    join = "" if sees_spaces else _SPACING
    return f"({start}{_loosen(head)}){join}{_loosen(rest)}"


def _control_pattern(head: str, controls: set[tuple[str, str]]) -> str:
    """Match all special tokens with one head: trying hundreds of them one by one is slow."""
    endings: dict[str, list[str]] = {}
    for first, rest in sorted(controls):
        if first == head:
            endings.setdefault(rest[0], []).append(re.escape(rest[1:]))
    branches = (f"{re.escape(first)}(?:{'|'.join(rests)})" for first, rests in endings.items())
    return f"({re.escape(head)})(?:{'|'.join(branches)})"


def _loosen(fixed: str) -> str:
    words = re.findall(r"\w+|[^\w\s]", fixed)
    return _SPACING.join(re.escape(word) for word in words)


# Folding

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
