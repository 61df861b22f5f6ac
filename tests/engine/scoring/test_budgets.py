"""Budgets: the requested one, or one that suits the model and the free memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from instructclf.engine.running.arithmetic import has_matrix_units
from instructclf.engine.scoring.budgets import (
    TokenBudget,
    cpu_tokens,
    free_memory,
    is_out_of_memory,
    make_budget,
    make_tuning_budget,
    tokens_of_a_copy,
)
from instructclf.exceptions import ScoringError
from tests.fixtures import make_model


def test_a_requested_budget_is_not_changed(model):
    assert make_budget(model, 7).n_tokens == 7


@pytest.mark.parametrize(
    ("dtype", "has_matrix_units", "n_tokens"),
    [
        (torch.float32, False, 512),
        (torch.float32, True, 512),
        (torch.bfloat16, False, 512),
        (torch.bfloat16, True, 1024),
        (torch.float16, True, 1024),
    ],
)
def test_a_batch_is_small_on_a_processor_without_matrix_units(dtype, has_matrix_units, n_tokens):
    assert cpu_tokens(dtype, has_matrix_units=has_matrix_units) == n_tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_default_a_batch_suits_this_processor(dtype):
    expected = cpu_tokens(dtype, has_matrix_units=has_matrix_units())
    assert make_budget(make_model(dtype=dtype), None).n_tokens == expected


def test_a_wide_model_gets_no_more_tokens_than_fit_free_memory(monkeypatch):
    model = make_model(hidden_size=64, intermediate_size=256)
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 2_000_000)
    assert 64 <= make_budget(model, None).n_tokens < 512


def test_without_knowledge_of_free_memory_the_budget_is_that_of_the_device(monkeypatch, model):
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: None)
    assert make_budget(model, None).n_tokens == 512
    assert tuning_budget(model) == 512


# Tuning


def tuning_budget(model, max_batch_tokens=None, *, n_tuned_layers=2, keeps_activations=True):
    return make_tuning_budget(
        model,
        max_batch_tokens,
        n_tuned_layers=n_tuned_layers,
        keeps_activations=keeps_activations,
    ).n_tokens


def test_with_enough_memory_tuning_takes_as_many_tokens_as_prediction(model):
    assert tuning_budget(model) == make_budget(model, None).n_tokens


def test_a_requested_budget_holds_for_tuning_too(monkeypatch, model):
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 1)
    assert tuning_budget(model, 77) == 77


def test_tuned_layers_share_the_free_memory(monkeypatch, model):
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 1_000_000)
    one, two = (tuning_budget(model, n_tuned_layers=n) for n in (1, 2))
    assert two == one // 2 < make_budget(model, None).n_tokens
    assert tuning_budget(model, n_tuned_layers=0) == one


def test_layers_that_run_again_need_no_more_memory_than_prediction(monkeypatch, model):
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 1_000_000)
    assert tuning_budget(model, keeps_activations=False) == make_budget(model, None).n_tokens


def test_tuning_takes_at_least_one_token(monkeypatch, model):
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 1)
    assert tuning_budget(model) == 1


# Copies of a prefix


def test_rows_with_a_copy_of_the_prefix_count_for_what_these_copies_take(monkeypatch, model):
    # Two layers with keys and values of 16 channels in float32, after 10 tokens.
    n_bytes = 2 * 2 * 16 * 4 * 10
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 20 * n_bytes)
    assert tokens_of_a_copy(model, TokenBudget(512), 10) == 52  # so that 10 rows are too many
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: 1)
    assert tokens_of_a_copy(model, TokenBudget(512), 10) == 512  # one row at a time
    monkeypatch.setattr("instructclf.engine.scoring.budgets.free_memory", lambda _: None)
    assert tokens_of_a_copy(model, TokenBudget(512), 10) == 0


# Memory


def test_the_processor_has_some_free_memory():
    assert 0 < free_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize(
    ("n_rows", "length", "expected"), [(8, 10, 40), (2, 10, 10), (3, 100, 150)]
)
def test_lowering_halves_a_batch_but_leaves_room_for_the_longest_row(n_rows, length, expected):
    budget = TokenBudget(10_000)
    budget.lower(n_rows, length, RuntimeError("out of memory"))
    assert budget.n_tokens == expected


def test_a_single_row_that_does_not_fit_is_an_error_with_a_remedy():
    error = RuntimeError("CUDA out of memory.")
    match = r"a single text of 77 tokens\. Lower max_length, .* The device said: CUDA out of memory"
    with pytest.raises(ScoringError, match=match) as caught:
        TokenBudget(100).lower(1, 77, error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_for_lack_of_memory_are_recognised(error, expected):
    assert is_out_of_memory(error) is expected


_SCRIPT = """
import resource
import sys

import numpy as np

from instructclf import PromptClassifier

texts = [f"thing number {i} " + "is well made, " * 20 for i in range(600)]
classifier = PromptClassifier(
    sys.argv[1], label_definitions={"positive": "good", "negative": "bad"}, n_shots=0,
    calibration=None,
)
classifier.set_params(model_options__max_batch_tokens=512).fit()
expected = classifier.label_log_likelihood(texts)
classifier.set_params(model_options__max_batch_tokens=10**9).fit().predict(texts[:2])

in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 100_000_000, -1))
found = classifier.label_log_likelihood(texts)
assert np.abs(found - expected).max() < 1e-4
print("same scores")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_process_that_runs_out_of_memory_continues_with_smaller_batches(model_folder):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, model_folder], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "same scores", done.stderr
    assert "Memory ran out: continuing with" in done.stderr
