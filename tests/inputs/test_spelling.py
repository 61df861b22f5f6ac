"""Names that look alike are suggested."""

from __future__ import annotations

import pytest

from instructclf.inputs.spelling import did_you_mean


@pytest.mark.parametrize(
    ("unknown", "known", "expected"),
    [
        (["postive"], ["negative", "positive"], " Did you mean 'positive' instead of 'postive'?"),
        (["TEXT"], ["text", "label"], " Did you mean 'text' instead of 'TEXT'?"),
        ([1], ["1", "2"], " Did you mean '1' instead of 1?"),
        (["god", "bd"], ["good", "bad"], " Did you mean 'good' instead of 'god', 'bad' instead of"),
        (["neutral"], ["good", "bad"], ""),
        ([], ["good"], ""),
    ],
    ids=["a letter", "case", "type", "several", "nothing alike", "nothing unknown"],
)
def test_a_name_that_looks_alike_is_suggested(unknown, known, expected):
    hint = did_you_mean(unknown, known)
    assert hint.startswith(expected)
    assert bool(hint) == bool(expected)
