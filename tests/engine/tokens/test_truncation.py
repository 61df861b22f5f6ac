"""Texts are cut in their middle until they fit."""

from __future__ import annotations

import random

import pytest

from instructclf.engine.tokens.truncation import (
    ELLIPSIS,
    cut_middle,
    cut_to_fit,
    find_cut,
    share_room,
    warn_of_cut_demonstrations,
    warn_of_cuts,
)
from instructclf.exceptions import TruncationWarning


def test_the_two_ends_of_a_text_stay():
    assert cut_middle("abcdefghij", 4) == f"ab{ELLIPSIS}ij"
    assert cut_middle("abcdefghij", 5) == f"abc{ELLIPSIS}ij"
    assert cut_middle("abcdefghij", 1) == f"a{ELLIPSIS}"


@pytest.mark.parametrize("n_kept", [10, 11, 1000])
def test_a_text_that_is_short_enough_stays_whole(n_kept):
    assert cut_middle("abcdefghij", n_kept) == "abcdefghij"


def in_words(text):
    return len(text.split())


def in_bytes(text):
    return len(text.encode())


def in_uneven_tokens(text):
    """Count more tokens for characters far from the middle, as for rare words."""
    half = len(text) // 2
    return sum(3 if abs(i - half) > 5 else 1 for i in range(len(text)))


@pytest.mark.parametrize("measure", [in_words, in_bytes, in_uneven_tokens, len])
def test_a_cut_text_never_exceeds_the_room(measure):
    rng = random.Random(0)
    for _ in range(100):
        text = "".join(rng.choices("abc  é文\n", k=rng.randrange(200)))
        room = rng.randrange(40)
        cut = cut_to_fit(text, room, measure)
        assert measure(cut) <= room
        assert cut == text or measure(text) > room


def test_a_text_that_fits_is_not_touched():
    assert cut_to_fit("one two three", 3, in_words) == "one two three"


def test_most_of_the_room_is_used():
    cut = cut_to_fit("word " * 1000, 100, in_words)
    assert 90 <= in_words(cut) <= 100
    assert cut.startswith("word ")
    assert ELLIPSIS in cut


def test_a_text_without_any_room_becomes_empty():
    assert cut_to_fit("word " * 10, 0, in_words) == ""
    assert cut_to_fit("x" * 100, 5, len) == ""  # the ellipsis alone takes more


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([5, 5, 5], 15, 5),
        ([5, 5, 5], 100, 5),
        ([5, 5, 5], 12, 4),
        ([1, 100, 100], 21, 10),
        ([1, 2, 100], 10, 7),
        ([10, 10], 0, 0),
        ([], 10, 0),
    ],
)
def test_short_texts_stay_whole_and_long_ones_share_the_rest(lengths, room, expected):
    assert share_room(lengths, room) == expected


def test_the_shared_limit_is_the_largest_that_fits():
    rng = random.Random(0)
    for _ in range(300):
        lengths = [rng.randrange(50) for _ in range(rng.randint(1, 8))]
        room = rng.randrange(200)
        limit = share_room(lengths, room)
        assert sum(min(length, limit) for length in lengths) <= room
        if limit < max(lengths):
            assert sum(min(length, limit + 1) for length in lengths) > room


def test_one_warning_says_how_many_texts_were_cut_and_which():
    match = r"^3 texts are longer than max_length=20 .* cut in their middle \(positions 0, 4"
    with pytest.warns(TruncationWarning, match=match) as seen:
        warn_of_cuts([0, 4, 7], "max_length=20")
    assert len(seen) == 1


def test_many_positions_are_abridged():
    with pytest.warns(TruncationWarning, match=r"^9 texts are .*positions 0, 1, 2, 3, 4, \.\.\.\)"):
        warn_of_cuts(range(9), "max_length=20")


def test_cut_demonstrations_have_a_warning_of_their_texts():
    match = r"^For 2 texts, demonstrations were cut .*max_length=20 .*\(positions 3, 5\)"
    with pytest.warns(TruncationWarning, match=match):
        warn_of_cut_demonstrations([3, 5], "max_length=20")


def test_without_cuts_there_is_no_warning():
    warn_of_cuts([], "max_length=20")
    warn_of_cut_demonstrations([], "max_length=20")


def test_the_ellipsis_of_a_cut_text_is_found_in_any_text():
    text = " [...] ".join(map(str, range(40)))
    for n_kept in range(1, len(text)):
        cut = cut_middle(text, n_kept)
        start, end = find_cut(cut)
        assert cut[start:end] == ELLIPSIS
        assert text.startswith(cut[:start])
        assert text.endswith(cut[end:])
        assert len(cut) - len(ELLIPSIS) == n_kept


def test_the_ellipsis_of_an_empty_text_is_empty():
    assert find_cut("") == (0, 0)


def test_the_warnings_of_one_text_are_in_the_singular():
    match = r"^1 text is longer than max_length=20 allows and was cut in its middle \(position 3\)"
    with pytest.warns(TruncationWarning, match=match):
        warn_of_cuts([3], "max_length=20")
    with pytest.warns(TruncationWarning, match=r"^For 1 text, demonstrations .* \(position 3\)"):
        warn_of_cut_demonstrations([3], "max_length=20")
