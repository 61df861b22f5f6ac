"""All evaluations make their calls in one loop, by workers if there are some."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.dummy import DummyClassifier

from instructclf.evaluation import compare
from instructclf.evaluation.plans import call_all

TRAIN = [f"text {i}" for i in range(20)], ["a", "b"] * 10
TEST = ["one", "two"], ["a", "b"]


def describe(name, result):
    return f"found {result}"


def divide(number):
    return 12 // number


CALLS = {"few": [partial(divide, 3)], "many": [partial(divide, n) for n in (1, 2, 4)]}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_come_in_order_with_or_without_workers(n_jobs, capsys):
    with parallel_config("threading", n_jobs=n_jobs):
        results = call_all("division", CALLS, describe, verbose=1)
    assert results == {"few": [4], "many": [12, 6, 3]}
    err = capsys.readouterr().err
    assert "division: 100%" in err
    assert "4/4" in err
    assert "many, found 3" in err


def test_an_error_names_its_group():
    with pytest.raises(ZeroDivisionError, match="happened during division, at 'wrong'"):
        call_all("division", {"wrong": [partial(divide, 0)]}, describe, verbose=0)


def test_an_error_of_the_only_group_without_a_name_has_no_note():
    with pytest.raises(ZeroDivisionError) as caught:
        call_all("division", {"": [partial(divide, 0)]}, describe, verbose=0)
    assert not hasattr(caught.value, "__notes__")


def test_workers_compare_approaches_as_one_process_does():
    estimators = {"a": DummyClassifier(), "b": DummyClassifier(strategy="uniform")}
    alone = compare(estimators, *TRAIN, *TEST, n_shots=4, n_seeds=2)
    with parallel_config("threading", n_jobs=2):
        shared = compare(estimators, *TRAIN, *TEST, n_shots=4, n_seeds=2)
    for name, scores in alone.scores.items():
        np.testing.assert_array_equal(scores.predictions, shared.scores[name].predictions)
