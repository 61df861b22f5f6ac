"""Unknown names and known ones → a question whether one of the known was meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(unknown: Iterable[Any], known: Iterable[Any]) -> str:
    """Return a sentence, after a space, that names the known ones that look alike; or nothing.

    Labels of another type, such as 1 and "1", look alike too.
    """
    by_text = {str(name).casefold(): name for name in known}
    pairs = [
        f"{by_text[close]!r} instead of {name!r}"
        for name in unknown
        for close in get_close_matches(str(name).casefold(), by_text, n=1)
    ]
    return f" Did you mean {', '.join(pairs)}?" if pairs else ""
