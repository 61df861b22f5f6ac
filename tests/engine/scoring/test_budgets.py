"""Budgets: what was asked for, or what suits the model and the memory that is free."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from instructclf.engine.scoring.budgets import (
    TokenBudget,
    free_memory,
    is_out_of_memory,
    make_budget,
)
from tests.fixtures import make_model


def test_a_budget_that_was_asked_for_is_taken_as_it_is(model):
    assert make_budget(model, 7).n_tokens == 7


def test_by_default_a_batch_is_small_on_a_processor(model):
    assert make_budget(model, None).n_tokens == 512


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_a_processor_takes_twice_as_many_tokens(dtype):
    assert make_budget(make_model(dtype=dtype), None).n_tokens == 1024


def test_a_wide_model_gets_no_more_than_free_memory_holds(monkeypatch):
    model = make_model(hidden_size=64, intermediate_size=256)
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 2_000_000)
    assert 64 <= make_budget(model, None).n_tokens < 512


def test_free_memory_of_the_processor_is_some_of_this_machines():
    assert 0 < free_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize(
    ("n_rows", "length", "expected"), [(8, 10, 40), (2, 10, 10), (3, 100, 150)]
)
def test_lowering_halves_what_did_not_fit_but_leaves_room_for_the_longest_row(
    n_rows, length, expected
):
    budget = TokenBudget(10_000)
    budget.lower(n_rows, length, RuntimeError("out of memory"))
    assert budget.n_tokens == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_mean_no_memory_are_told_from_others(error, expected):
    assert is_out_of_memory(error) is expected


_SCRIPT = """
import resource
import sys

import numpy as np

from instructclf import PromptClassifier

texts = [f"thing number {i} " + "is well made, " * 20 for i in range(600)]
classifier = PromptClassifier(
    sys.argv[1], label_definitions={"positive": "good", "negative": "bad"}, n_shots=0,
    calibration=None, max_batch_tokens=10**9,
).fit()
expected = classifier.set_params(max_batch_tokens=512).fit().label_log_likelihood(texts)
classifier.set_params(max_batch_tokens=10**9).fit().predict(texts[:2])

in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 100_000_000, -1))
found = classifier.label_log_likelihood(texts)
assert classifier._scorer._budget.n_tokens < 10**9, "memory never ran out"
assert np.abs(found - expected).max() < 1e-4
print("same scores")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_process_that_runs_out_of_memory_goes_on_with_smaller_batches(model_folder):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, model_folder], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "same scores", done.stderr
