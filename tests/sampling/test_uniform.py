"""Random shots: any row, regardless of its label."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling import RandomSampler

TEXTS = [f"text {i}" for i in range(20)]
LABELS = ["common"] * 16 + ["rare"] * 4


def test_labels_have_their_share_of_the_shots():
    chosen = [RandomSampler().select(TEXTS, LABELS, 5, random_state=s) for s in range(400)]
    share = np.mean([LABELS[i] == "rare" for shots in chosen for i in shots])
    assert 0.17 < share < 0.23  # 4 of 20; the standard error is 0.009


def test_every_row_is_equally_likely():
    drawn = Counter(
        i for s in range(400) for i in RandomSampler().select(TEXTS, LABELS, 5, random_state=s)
    )
    assert len(drawn) == 20
    assert min(drawn.values()) > 65  # 100 on average, standard deviation 9
    assert max(drawn.values()) < 135


def test_fewer_shots_than_labels_are_allowed():
    assert len(RandomSampler().select(TEXTS, LABELS, 1, random_state=0)) == 1


def test_no_shots_are_an_error():
    with pytest.raises(InvalidShotsError, match="n_shots must be 1 or more. Got 0 instead."):
        RandomSampler().select(TEXTS, LABELS, 0)
