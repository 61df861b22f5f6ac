"""Names of devices and data types, and the best ones of a machine."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models import devices
from instructclf.engine.models.devices import (
    DTYPES,
    check_not_forked,
    resolve_device,
    resolve_dtype,
    warn_of_shared_device,
)
from instructclf.exceptions import ModelLoadingError, ScoringError, SharedDeviceWarning

CPU = torch.device("cpu")


def test_a_device_is_taken_by_its_name():
    assert resolve_device("cpu") == CPU


def test_auto_takes_the_best_device():
    device = resolve_device("auto")
    if torch.cuda.is_available():
        assert device.type == "cuda"
    elif torch.backends.mps.is_available():
        assert device.type == "mps"
    else:
        assert device == CPU


@pytest.mark.parametrize("unknown", ["gpu", "", "cpu:x", None])
def test_an_unknown_device_is_an_error(unknown):
    match = (
        f"'device' parameter of ModelOptions must name a torch device, .*'auto'. Got {unknown!r}"
    )
    with pytest.raises(ModelLoadingError, match=match):
        resolve_device(unknown)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_does_not_exist_is_an_error_with_a_way_out(device):
    match = (
        f"device='{device}' was requested and torch finds no CUDA device. "
        r"Use model_options=ModelOptions\(device='cpu'\)"
    )
    with pytest.raises(ModelLoadingError, match=match):
        resolve_device(device)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="is about machines without MPS")
@pytest.mark.parametrize("device", ["mps", "meta", "xpu", "hpu"])
def test_a_device_that_torch_cannot_use_here_is_an_error_with_a_way_out(device):
    with pytest.raises(ModelLoadingError, match=f"'{device}' was .* cannot use it on this machine"):
        resolve_device(device)


def test_these_errors_are_value_errors_too():
    with pytest.raises(ValueError, match="'dtype' parameter"):
        resolve_dtype("float23", CPU)


@pytest.mark.parametrize("name", DTYPES)
def test_a_data_type_is_taken_by_its_name(name):
    assert resolve_dtype(name, CPU) is getattr(torch, name)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.float64, None], ids=str)
def test_the_cpu_computes_in_single_precision_what_bfloat16_would_round(stored, monkeypatch):
    monkeypatch.setattr(devices, "has_bfloat16_instructions", lambda: True)
    assert resolve_dtype("auto", CPU, stored=lambda: stored) is torch.float32


@pytest.mark.parametrize("has_instructions", [True, False])
def test_the_cpu_takes_bfloat16_where_it_is_fast_and_weights_are_stored_so(
    has_instructions, monkeypatch
):
    monkeypatch.setattr(devices, "has_bfloat16_instructions", lambda: has_instructions)
    expected = torch.bfloat16 if has_instructions else torch.float32
    assert resolve_dtype("auto", CPU, stored=lambda: torch.bfloat16) is expected


def test_other_accelerators_take_half_precision():
    assert resolve_dtype("auto", torch.device("mps")) is torch.float16


@pytest.mark.parametrize("unknown", ["float", "int8", "torch.float32", "", None])
def test_an_unknown_data_type_is_an_error_that_lists_the_known_ones(unknown):
    match = (
        rf"'dtype' parameter of ModelOptions must be one of .*'float32'.* 'auto'. Got {unknown!r}"
    )
    with pytest.raises(ModelLoadingError, match=match):
        resolve_dtype(unknown, CPU)


# Workers and forks


def test_a_process_forked_after_cuda_was_used_is_told_to_be_started_afresh():
    with pytest.raises(ScoringError, match=r"forked from one that had used CUDA.*loky.*'spawn'"):
        check_not_forked(torch.device("cuda", 0), was_forked=True)


@pytest.mark.parametrize(("device", "was_forked"), [("cpu", True), ("cuda", False), ("cpu", None)])
def test_a_fork_is_harmless_on_the_cpu_or_before_cuda_is_used(device, was_forked):
    check_not_forked(torch.device(device), was_forked=was_forked)


@pytest.mark.parametrize("name", ["LokyProcess-3", "ForkPoolWorker-1", "SpawnPoolWorker-2"])
def test_workers_that_load_a_model_each_onto_one_gpu_are_warned(name):
    message = rf"{name} is one of several workers.*onto cuda:0.*With n_jobs=1 all fits share one"
    with pytest.warns(SharedDeviceWarning, match=message):
        warn_of_shared_device(torch.device("cuda", 0), name)


@pytest.mark.parametrize(
    ("device", "name"), [("cpu", "LokyProcess-1"), ("cuda", "MainProcess"), ("cuda", "Dask Worker")]
)
def test_workers_on_the_cpu_and_those_with_a_gpu_of_their_own_are_not(device, name):
    warn_of_shared_device(torch.device(device), name)
