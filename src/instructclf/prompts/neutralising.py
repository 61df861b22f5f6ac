"""Text → data: break up whatever in a text could be read as template or as control token.

A space goes in after the first character of a marker (``### Response:`` → ``# ## Response:``). The
words stay readable, and neither a tokenizer nor a template can take them for its own.
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
    while (broken := pattern.sub(lambda match: _break(match[0]), text)) != text:
        text = broken
    return text


def _break(found: str) -> str:
    start = len(found) - len(found.lstrip())
    return f"{found[: start + 1]} {found[start + 1 :]}"


@lru_cache(maxsize=64)
def _pattern(markers: tuple[str, ...], control_strings: tuple[str, ...]) -> re.Pattern[str] | None:
    alternatives = [_marker_pattern(marker) for marker in markers if len(marker) > 1]
    alternatives += [re.escape(control) for control in control_strings if len(control.strip()) > 1]
    return re.compile("|".join(alternatives)) if alternatives else None


def _marker_pattern(marker: str) -> str:
    first, *rest = re.findall(r"\w+|[^\w\s]", marker)
    # The first character must be followed by the next one directly, or a broken marker would be
    # found again.
    if len(first) == 1 and rest:
        second, *rest = rest
        first = first + second
    words = [re.escape(first), *(re.escape(word) for word in rest)]
    pattern = f"(?i:{_SPACING.join(words)})"
    return f"(?m:^{_SPACING}{pattern})" if marker[0].isalpha() else pattern
