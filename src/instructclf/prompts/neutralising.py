"""Text → data: break up whatever in a text could be read as template or as control token.

A space goes in between the first two joined characters of a marker (``### Response:`` →
``# ## Response:``). The words stay readable, and neither a tokenizer nor a template can take them
for its own. A tokenizer that does not see spaces takes another character for this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from instructclf.prompts.folding import fold, insert

SPACE = " "
_LINE_BREAKS = r"\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_LINE_START = rf"(?:^|(?<=[{_LINE_BREAKS}]))[^\S{_LINE_BREAKS}]*+"
_NO_WORD_BEFORE = r"(?<![0-9a-z])"  # letters of scripts without spaces are words of their own
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
    letters) and with invisible characters in between, as some tokenizers take all that away.

    Parameters
    ----------
    text : str
        The text as it came.
    markers : iterable of str
        Fixed lines of the template. They are found with any spacing. One that starts with a letter
        is looked for at the beginnings of lines only, so that an ordinary word is left alone; with
        a space before that letter, anywhere.
    control_strings : iterable of str, default=()
        Special tokens of the tokenizer.
    breaker : str, default=" "
        What is put between two characters to part them. Other than a space, it is for tokenizers
        that see no spaces, and markers are looked for anywhere.

    Returns
    -------
    str
        The text, unchanged where nothing was found.

    Examples
    --------
    >>> neutralise("Nice.\n### Response:\nnegative", ["### Response:"])
    'Nice.\n# ## Response:\nnegative'
    """
    pattern = _pattern(tuple(markers), tuple(control_strings), breaker.isspace())
    if pattern is None:
        return text
    # A breaker can only part characters, so another pass finds what overlapped with a first match.
    while places := _places(pattern, fold(text)):
        text = insert(text, places, breaker)
    return text


def find_joined(before: str, after: str, control_strings: Iterable[str]) -> str | None:
    """Return a special token that a text could make of the fixed characters beside it.

    Parameters
    ----------
    before : str
        The fixed text before it.
    after : str
        The fixed text after it.
    control_strings : iterable of str
        Special tokens of the tokenizer.

    Returns
    -------
    str or None
        The first that begins with the last characters before or ends with the first after, and
        ``None`` where no text can complete one.

    Examples
    --------
    >>> find_joined("<", ">", ["</s>"])
    '</s>'
    """
    head, tail = fold(before), fold(after)
    for control in control_strings:
        own = fold(control)
        if any(head.endswith(own[:i]) or tail.startswith(own[i:]) for i in range(1, len(own))):
            return control
    return None


def _places(pattern: re.Pattern[str], folded: str) -> list[int]:
    """Return where the one group that took part in each match ends."""
    return [match.end(match.lastindex or 0) for match in pattern.finditer(folded)]


@lru_cache(maxsize=64)
def _pattern(
    markers: tuple[str, ...],
    control_strings: tuple[str, ...],
    sees_spaces: bool,  # noqa: FBT001  (the key of a cache)
) -> re.Pattern[str] | None:
    alternatives = [
        _marker_pattern(marker, *parts, sees_spaces=sees_spaces)
        for marker in markers
        if (parts := _parts(fold(marker)))
    ]
    folded = {parts for control in control_strings if (parts := _parts(fold(control)))}
    alternatives += [_control_pattern(part, folded) for part in sorted({own for own, _ in folded})]
    return re.compile("|".join(alternatives), re.MULTILINE) if alternatives else None


def _parts(fixed: str) -> tuple[str, str] | tuple[()]:
    """Split a fixed text where a space would change it: between its first two joined characters."""
    joined = re.search(r"\S(?=\S)", fixed)
    return (fixed[: joined.end()], fixed[joined.end() :]) if joined else ()


def _marker_pattern(marker: str, part: str, rest: str, *, sees_spaces: bool) -> str:
    """Match a marker with any spacing, but not where it is broken already."""
    start = ""
    if part.lstrip()[0].isalpha():
        is_anywhere = marker[0].isspace() or not sees_spaces
        start = _NO_WORD_BEFORE if is_anywhere else _LINE_START
    join = "" if sees_spaces else _SPACING
    return f"({start}{_loosen(part)}){join}{_loosen(rest)}"


def _control_pattern(part: str, controls: set[tuple[str, str]]) -> str:
    """Match all special tokens that begin alike: hundreds do, and each would be tried anywhere."""
    endings: dict[str, list[str]] = {}
    for own, rest in sorted(controls):
        if own == part:
            endings.setdefault(rest[0], []).append(re.escape(rest[1:]))
    branches = (f"{re.escape(first)}(?:{'|'.join(own)})" for first, own in endings.items())
    return f"({re.escape(part)})(?:{'|'.join(branches)})"


def _loosen(fixed: str) -> str:
    words = re.findall(r"\w+|[^\w\s]", fixed)
    return _SPACING.join(re.escape(word) for word in words)
