"""Models go to the device that is meant, once, in the precision that it has."""

from __future__ import annotations

import pytest
import torch

from instructclf import ModelOptions, PromptClassifier
from instructclf.engine.models.registry import get_base_model
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import LABELS, TEXTS
from tests.simulated_device.machine import Gpu
from tests.simulated_device.simulation import fresh_machine

TURING, HOPPER = (7, 5), (9, 0)


def devices_of(base):
    return {str(weight.device) for weight in base.model.parameters()}


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_model_goes_to_the_first_device_by_each_of_its_names(machine, model_folder, device):
    base = get_base_model(model_folder, device=device)
    assert devices_of(base) == {"cuda:0"}
    assert machine.gpus[1].n_allocated == 0


def test_names_of_one_device_load_a_model_once(machine, model_folder, n_loads):
    bases = [get_base_model(model_folder, device=name) for name in ("auto", "cuda", "cuda:0")]
    assert bases[0] is bases[1] is bases[2]
    assert n_loads() == 1
    torch.cuda.set_device(1)
    assert devices_of(get_base_model(model_folder, device="cuda")) == {"cuda:1"}


def test_a_device_beyond_the_last_is_an_error_that_names_them(machine, model_folder):
    match = (
        "device='cuda:7' was requested and torch finds 2 CUDA devices, from 'cuda:0' to 'cuda:1'"
    )
    with pytest.raises(ModelLoadingError, match=match):
        get_base_model(model_folder, device="cuda:7")
    with pytest.raises(ModelLoadingError, match=match):
        get_base_model(model_folder, device_map={"": 7})


@pytest.mark.parametrize(
    ("capability", "dtype"), [(TURING, torch.float16), (HOPPER, torch.bfloat16)]
)
def test_half_precision_is_what_the_device_computes_without_emulation(
    model_folder, capability, dtype
):
    with fresh_machine(capability=capability):
        assert get_base_model(model_folder).model.dtype == dtype


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"device": "cuda:0"}, torch.bfloat16),
        ({"device": "cuda:1"}, torch.float16),
        ({"device_map": {"": 0}}, torch.bfloat16),
        ({"device_map": {"": "cuda:1"}}, torch.float16),
        ({"device_map": {"model": 0, "lm_head": 1}}, torch.float16),
        ({"device_map": {"": "cpu"}}, torch.float32),
        ({"device_map": {"model": 0, "lm_head": "cpu"}}, torch.bfloat16),
    ],
    ids=str,
)
def test_the_precision_is_that_of_the_devices_that_compute(machine, model_folder, options, dtype):
    machine.gpus[1] = Gpu(capability=TURING)
    assert get_base_model(model_folder, **options).model.dtype == dtype


def test_a_fit_leaves_the_random_numbers_of_all_devices_as_they_were(machine, make_classifier):
    torch.manual_seed(1)
    before = [torch.get_rng_state(), *(gpu.random_state for gpu in machine.gpus)]
    make_classifier().fit(TEXTS, LABELS)
    after = [torch.get_rng_state(), *(gpu.random_state for gpu in machine.gpus)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_a_model_on_the_cpu_touches_no_device(machine, model_folder):
    states = [gpu.random_state for gpu in machine.gpus]
    PromptClassifier(
        model_folder, n_shots=4, random_state=0, model_options=ModelOptions(device="cpu")
    ).fit(TEXTS, LABELS).predict(TEXTS[:2])
    assert [gpu.n_peak for gpu in machine.gpus] == [0, 0]
    assert all(map(torch.equal, states, [gpu.random_state for gpu in machine.gpus]))
