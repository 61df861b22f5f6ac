"""A machine with CUDA devices, in a process that has none.

    with simulated_gpus(2) as machine:
        ...  # torch.cuda.is_available(), and "cuda:0" and "cuda:1" work
        machine.count("synchronisation")

Numbers are those of the CPU; the rules are those of CUDA: see `tensors`, `operators` and `machine`.
What it cannot show are the kernels themselves: their speed, and the order of their sums.

It relies on backends of torch that are written in Python, which torch registers once per process
and which stay there. So its tests run in a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._foreach_utils import _foreach_supported_types
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from instructclf.engine.models.registry import clear_base_models
from instructclf.engine.scoring import strategies
from tests.simulated_device import operators, tensors
from tests.simulated_device.machine import Gpu, Machine, Mark

_setup_privateuseone_for_python_backend(tensors.BACKEND, backend_module=torch.cuda)
_foreach_supported_types.append(tensors.GpuTensor)  # as CUDA does, for any number of tensors
_kernels = torch.library.Library("aten", "IMPL")
for _name in operators.NOT_COMPOSED:
    # Never called: it lets the calls of autograd arrive at the simulation in one piece.
    _kernels.impl(_name, lambda *_: NotImplemented, "PrivateUse1")


@contextmanager
def simulated_gpus(n_gpus: int = 1, **properties: Any) -> Iterator[Machine]:
    """Let torch find CUDA devices inside the block: equal ones, with these properties of `Gpu`."""
    machine = Machine([Gpu(**properties) for _ in range(n_gpus)])
    with (
        pytest.MonkeyPatch.context() as patch,
        torch.autograd.set_multithreading_enabled(False),  # torch has a thread for one device only
        tensors.OperatorMode(),
        tensors.FunctionMode(),
    ):
        patch.setattr(tensors, "machine", machine)
        patch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # other threads know no simulation
        # Tied weights stay tied when a module goes to a device.
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
        patch.setattr(torch.inference_mode, "__enter__", _enter_without_threads)
        patch.setattr(torch.autograd, "_engine_run_backward", _backward_of(machine))
        for name, value in _cuda_functions(machine).items():
            patch.setattr(torch.cuda, name, value, raising=False)
        yield machine


_enter = torch.inference_mode.__enter__


def _enter_without_threads(self: torch.inference_mode) -> None:
    """Enter a mode of inference, on or off. Each would switch the threads of autograd on again."""
    _enter(self)
    torch._C._set_multithreading_enabled(False)


_run_backward = torch.autograd._engine_run_backward


def _backward_of(machine: Machine) -> Callable[..., Any]:
    """Return torch's backward pass, in which layers that run again are simulated too."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with tensors.FunctionMode():  # torch has left the one around this call
            found = _run_backward(*args, **kwargs)
        machine.raise_refused()
        return found

    return run


@contextmanager
def fresh_machine(n_gpus: int = 1, **properties: Any) -> Iterator[Machine]:
    """Simulate devices for a process that has loaded and tried nothing, as far as that goes.

    Fails at the end if an index was out of range, whether or not the program caught that.
    """
    clear_base_models()
    strategies._found.clear()
    with simulated_gpus(n_gpus, **properties) as machine:
        yield machine
        clear_base_models()
    assert not machine.failure, f"An index out of range: {machine.failure}"


def _cuda_functions(machine: Machine) -> dict[str, Any]:
    """Return what `torch.cuda` offers on this machine."""

    def index_of(device: Any = None) -> int:
        if device is None or isinstance(device, int):
            return machine.current if device is None else device
        index = torch.device(device).index
        return machine.current if index is None else index

    def gpu(device: Any = None) -> Gpu:
        return machine.gpus[index_of(device)]

    @contextmanager
    def current(device: Any) -> Iterator[None]:
        before, machine.current = machine.current, index_of(device)
        try:
            yield
        finally:
            machine.current = before

    def seeded(seed: int) -> torch.Tensor:
        return torch.Generator().manual_seed(seed).get_state()

    def synchronize(*_: Any) -> None:
        machine.wait(machine.n_downloads)

    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "_is_in_bad_fork": lambda: False,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: len(machine.gpus),
        "current_device": lambda: machine.current,
        "set_device": lambda device: setattr(machine, "current", index_of(device)),
        "device": current,
        "get_device_name": lambda *_: "simulated",
        "get_device_capability": lambda *device: gpu(*device).capability,
        "get_device_properties": lambda *device: SimpleNamespace(
            name="simulated",
            major=gpu(*device).capability[0],
            minor=gpu(*device).capability[1],
            total_memory=gpu(*device).n_bytes,
            uuid=f"simulated-{index_of(*device)}",
        ),
        # Older devices emulate bfloat16, which counts as support unless the caller says otherwise.
        "is_bf16_supported": lambda including_emulation=True: (
            including_emulation or gpu().capability >= (8, 0)
        ),
        "mem_get_info": lambda *device: (
            gpu(*device).n_bytes - gpu(*device).n_allocated,
            gpu(*device).n_bytes,
        ),
        "memory_reserved": lambda *device: gpu(*device).n_allocated,
        "memory_allocated": lambda *device: gpu(*device).n_allocated,
        "max_memory_allocated": lambda *device: gpu(*device).n_peak,
        "reset_peak_memory_stats": lambda *device: setattr(
            gpu(*device), "n_peak", gpu(*device).n_allocated
        ),
        "get_amp_supported_dtype": lambda: [torch.float16, torch.bfloat16],  # of a Python backend
        "empty_cache": lambda: None,
        "synchronize": synchronize,
        "Event": partial(Mark, machine),
        "current_stream": lambda *_: None,
        "get_rng_state": lambda device="cuda": gpu(device).random_state.clone(),
        "set_rng_state": lambda state, device="cuda": setattr(
            gpu(device), "random_state", state.clone()
        ),
        "manual_seed": lambda seed: setattr(gpu(), "random_state", seeded(seed)),
        "manual_seed_all": lambda seed: [
            setattr(each, "random_state", seeded(seed)) for each in machine.gpus
        ],
    }
