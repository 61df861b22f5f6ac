"""A sampler is a name or an object with one method."""

from __future__ import annotations

import pytest

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling import (
    SAMPLERS,
    BalancedSampler,
    KNNSampler,
    PerInputSampler,
    ShotSampler,
    UncertaintySampler,
    get_sampler,
    select_shots,
)


class FirstRows:
    """Takes the first rows."""

    def select(self, X, y, n_shots, *, random_state=None):
        return range(n_shots)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_name_gives_a_sampler_with_default_parameters(name):
    sampler = get_sampler(name)
    assert type(sampler) is SAMPLERS[name]
    assert repr(sampler) == f"{SAMPLERS[name].__name__}()"


def test_only_knn_chooses_for_each_text():
    assert {name for name in SAMPLERS if isinstance(get_sampler(name), PerInputSampler)} == {"knn"}
    assert isinstance(KNNSampler(), ShotSampler)


def test_probabilities_go_only_to_samplers_that_need_them():
    def predict_proba(texts):
        asked.extend(texts)
        return [[0.5, 0.5]] * len(texts)

    asked, texts, labels = [], ["a", "b", "c", "d"], [0, 0, 1, 1]
    for sampler in ("balanced", FirstRows()):
        select_shots(sampler, texts, labels, 2, random_state=0, predict_proba=predict_proba)
    assert asked == []
    for sampler in ("uncertainty", UncertaintySampler()):
        select_shots(sampler, texts, labels, 2, random_state=0, predict_proba=predict_proba)
    assert sorted(asked) == sorted(texts * 2)


@pytest.mark.parametrize("sampler", [BalancedSampler(), FirstRows()], ids=["ours", "another class"])
def test_an_object_with_select_is_returned_unchanged(sampler):
    assert get_sampler(sampler) is sampler
    assert isinstance(sampler, ShotSampler)


@pytest.mark.parametrize("unknown", ["balanced ", "kmeanz", "", None, 3, ["balanced"]], ids=repr)
def test_anything_else_is_an_error_that_lists_the_names(unknown):
    match = "'sampler' parameter must be one of 'balanced'.*an object with a 'select' method"
    with pytest.raises(InvalidShotsError, match=match) as caught:
        get_sampler(unknown)
    assert f"Got {unknown!r} instead." in str(caught.value)


def test_a_class_instead_of_an_instance_is_an_error():
    with pytest.raises(InvalidShotsError, match="Got <class .*BalancedSampler'> instead"):
        get_sampler(BalancedSampler)
