"""Which rows are held out, few or many."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import KFold

from instructclf.classifiers.wrapping.splits import split_rows
from instructclf.exceptions import InvalidLabelsError


@pytest.mark.parametrize(
    ("counts", "n_splits", "n_held_out"),
    [
        ([8, 8], 4, 16),
        ([2, 40], 2, 42),
        ([300, 300], 1, 150),
        ([2000, 2000], 1, 512),
        ([3] * 200, 3, 600),  # a quarter could not hold out a row of each label
    ],
)
def test_few_rows_are_cross_validated_and_of_many_some_are_held_out(counts, n_splits, n_held_out):
    labels = np.repeat(np.arange(len(counts)), counts)
    splits = split_rows(labels, "auto", 0)
    held_out = np.concatenate([tested for _, tested in splits])
    assert len(splits) == n_splits
    assert len(held_out) == len(set(held_out.tolist())) == n_held_out
    for learned, tested in splits:
        assert not set(learned) & set(tested)
        assert set(labels[learned]) == set(labels)


def test_a_splitter_is_taken_as_it_is():
    labels = np.array(["a", "b"] * 4)
    splits = split_rows(labels, KFold(2), None, ["text"] * 8)
    assert [tested.tolist() for _, tested in splits] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_label_with_a_single_row_is_named():
    with pytest.raises(InvalidLabelsError, match="Label 'b' has a single row"):
        split_rows(np.array(["a", "a", "b"]), "auto", 0)
