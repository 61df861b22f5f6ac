"""A sampler is a name or an object with one method."""

from __future__ import annotations

import pytest

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling import BalancedSampler, ShotSampler, get_sampler


class FirstRows:
    """Takes the first rows, whatever they are."""

    def select(self, X, y, n_shots, *, random_state=None):
        return range(n_shots)


def test_a_name_gives_a_sampler():
    assert isinstance(get_sampler("balanced"), BalancedSampler)


@pytest.mark.parametrize("sampler", [BalancedSampler(), FirstRows()], ids=["ours", "foreign"])
def test_an_object_with_select_comes_back_unchanged(sampler):
    assert get_sampler(sampler) is sampler
    assert isinstance(sampler, ShotSampler)


@pytest.mark.parametrize("unknown", ["balanced ", "kmeanz", "", None, 3, ["balanced"]], ids=repr)
def test_anything_else_is_an_error_that_lists_the_names(unknown):
    match = "'sampler' parameter must be one of 'balanced'.*an object with a 'select' method"
    with pytest.raises(InvalidShotsError, match=match) as caught:
        get_sampler(unknown)
    assert f"Got {unknown!r} instead." in str(caught.value)


def test_a_class_is_no_sampler_yet():
    with pytest.raises(InvalidShotsError, match="Got <class .*BalancedSampler'> instead"):
        get_sampler(BalancedSampler)
