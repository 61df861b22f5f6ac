"""Texts that are too long → texts cut in their middle.

The instruction, the cue and the labels are never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from instructclf.exceptions import TruncationWarning, warn_caller

ELLIPSIS = " [...] "

Measure = Callable[[str], int]
"""How many tokens something takes."""


def cut_middle(text: str, n_kept: int) -> str:
    """Cut a longer text to ``n_kept`` characters, half from each end, around an ellipsis."""
    if len(text) <= n_kept:
        return text
    n_last = n_kept // 2
    return f"{text[: n_kept - n_last]}{ELLIPSIS}{text[len(text) - n_last :]}"


def find_cut(cut: str) -> tuple[int, int]:
    """Return where the ellipsis of a cut text begins and ends: equal if no text is left."""
    n_kept = max(len(cut) - len(ELLIPSIS), 0)
    start = n_kept - n_kept // 2
    return start, min(start + len(ELLIPSIS), len(cut))


def cut_to_fit(text: str, room: int, measure: Measure) -> str:
    """Cut the middle of a text until it takes no more tokens than it may.

    ``measure`` counts the tokens of a text inside its prompt. The result is empty if not even a few
    characters fit.
    """
    cut, n_kept, taken = text, len(text), measure(text)
    while taken > room and n_kept > 0:
        n_kept = min(n_kept - 1, int(n_kept * room / taken))
        cut = cut_middle(text, n_kept) if n_kept else ""
        taken = measure(cut)
    return cut


def share_room(lengths: Sequence[int], room: int) -> int:
    """Return the largest length to which texts may be cut so that together they fit.

    Shorter texts stay whole, and longer ones share the remaining tokens.
    """
    left = room
    for n_left, length in zip(range(len(lengths), 0, -1), sorted(lengths), strict=True):
        if length * n_left > left:
            return left // n_left
        left -= length
    return max(lengths, default=0)


def warn_of_cuts(positions: Sequence[int], limit: str) -> None:
    """Warn once of all texts that were cut: how many, which, and why."""
    if not positions:
        return
    what = "1 text is" if len(positions) == 1 else f"{len(positions)} texts are"
    cut = "was cut in its middle" if len(positions) == 1 else "were cut in their middle"
    warn_caller(
        f"{what} longer than {limit} allows and {cut} ({_list_first(positions)}).",
        TruncationWarning,
    )


def warn_of_cut_demonstrations(positions: Sequence[int], limit: str) -> None:
    """Warn once of all texts whose demonstrations were cut: how many, which, and why."""
    if not positions:
        return
    texts = "1 text" if len(positions) == 1 else f"{len(positions)} texts"
    warn_caller(
        f"For {texts}, demonstrations were cut in their middle to leave room within {limit} "
        f"({_list_first(positions)}).",
        TruncationWarning,
    )


def _list_first(positions: Sequence[int]) -> str:
    name = "position" if len(positions) == 1 else "positions"
    return f"{name} {', '.join(map(str, positions[:5]))}{', ...' if len(positions) > 5 else ''}"
