"""Folding reduces a text as tokenizers may, and keeps track of positions."""

from __future__ import annotations

import pytest

from instructclf.prompts.neutralising import fold, insert


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Größe", "grosse"),
        ("RE\u0301SPONSE", "response"),  # a combining accent
        ("a\u200bb\x00c", "abc"),  # invisible characters
        ("\uff03 x\u2581y", "# x y"),  # full width, and SentencePiece's space
        ("a\u00a0b\nc", "a\u00a0b\nc"),  # spaces stay
        ("", ""),
    ],
)
def test_a_text_is_folded_to_its_simplest_form(text, folded):
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("text", "positions", "expected"),
    [
        ("abcd", [1, 3], "a|bc|d"),
        ("a\u200bbc", [2], "a\u200bb|c"),  # positions do not count invisible characters
        ("a\u2a74b", [2], "a::=b"),  # inside the fold of one character: replaced by its fold
        ("abc", [], "abc"),
    ],
)
def test_a_breaker_is_inserted_at_positions_of_the_fold(text, positions, expected):
    assert insert(text, positions, "|") == expected
