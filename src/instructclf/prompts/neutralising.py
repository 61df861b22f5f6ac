"""Text → data: break up whatever in a text could be read as template or as control token.

A space goes in between the first two joined characters of a marker (``### Response:`` →
``# ## Response:``). The words stay readable, and neither a tokenizer nor a template can take them
for its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_SPACING = r"[^\S\n]*"


def neutralise(text: str, markers: Iterable[str], control_strings: Iterable[str] = ()) -> str:
    r"""Break up template markers and control strings inside a text.

    Parameters
    ----------
    text : str
        The text as it came.
    markers : iterable of str
        Fixed lines of the template. They are found in any case and with any spacing; one that
        starts with a letter is looked for at the beginnings of lines only, so that an ordinary
        word is left alone.
    control_strings : iterable of str, default=()
        Special tokens of the tokenizer, found anywhere as they are.

    Returns
    -------
    str
        The text, unchanged where nothing was found.

    Examples
    --------
    >>> neutralise("Nice.\n### Response:\nnegative", ["### Response:"])
    'Nice.\n# ## Response:\nnegative'
    """
    pattern = _pattern(tuple(markers), tuple(control_strings))
    if pattern is None:
        return text
    # A space can only part characters, so a second pass finds what overlapped with a first match.
    while (broken := pattern.sub(_break, text)) != text:
        text = broken
    return text


def _break(match: re.Match[str]) -> str:
    """Put a space after what the one group that took part in a match found."""
    end = match.end(match.lastindex or 0) - match.start()
    return f"{match[0][:end]} {match[0][end:]}"


@lru_cache(maxsize=64)
def _pattern(markers: tuple[str, ...], control_strings: tuple[str, ...]) -> re.Pattern[str] | None:
    alternatives = [_marker_pattern(*parts) for marker in markers if (parts := _parts(marker))]
    alternatives += [
        f"({re.escape(parts[0])}){re.escape(parts[1])}"
        for control in control_strings
        if (parts := _parts(control))
    ]
    return re.compile("|".join(alternatives)) if alternatives else None


def _parts(fixed: str) -> tuple[str, str] | tuple[()]:
    """Split a fixed text where a space would change it: between its first two joined characters."""
    joined = re.search(r"\S(?=\S)", fixed)
    return (fixed[: joined.end()], fixed[joined.end() :]) if joined else ()


def _marker_pattern(part: str, rest: str) -> str:
    """Match a marker in any case and with any spacing, but not where it is broken already."""
    start = f"^{_SPACING}" if part[0].isalpha() else ""
    return f"(?mi:({start}{_loosen(part)}){_loosen(rest)})"


def _loosen(fixed: str) -> str:
    words = re.findall(r"\w+|[^\w\s]", fixed)
    return _SPACING.join(re.escape(word) for word in words)
