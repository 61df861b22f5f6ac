"""Models that accelerate has spread over devices: where inputs go, and where weights wait.

Hooks of accelerate move the inputs of a module to the module's device. Offloaded weights wait on
the CPU or the disk, and are put into their module only while it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instructclf.engine.running.locks import process_state

_HOOK = "_hf_hook"


def input_device(model: Any) -> torch.device:
    """Return the device on which a model's embeddings are computed, which takes its inputs.

    An offloaded embedding weight is on another device, or on none.
    """
    embeddings = model.get_input_embeddings()
    planned = getattr(getattr(embeddings, _HOOK, None), "execution_device", None)
    return embeddings.weight.device if planned is None else torch.device(planned)


def accepts(model: Any, name: str) -> bool:
    """Say whether the model's forward names this parameter: ``**kwargs`` would swallow it."""
    return name in inspect.signature(type(model).forward).parameters


def is_offloaded(model: nn.Module) -> bool:
    """Say whether any weight is offloaded. Such a model can run in one thread at a time only."""
    return any(getattr(hook, "offload", False) for hook in _hooks(model))


def check_not_offloaded(model: nn.Module) -> None:
    """Raise ``ValueError`` if weights are offloaded: no adapter can be put on such modules."""
    if is_offloaded(model):
        msg = (
            "With this device_map a part of the model is offloaded to the CPU or the disk, where "
            "no adapter can be tuned or used. Use more GPUs, a smaller model or "
            "model_options=ModelOptions(quantization='4bit'); or use PromptClassifier, which only "
            "reads the model."
        )
        raise ValueError(msg)


def offloaded_parts(model: nn.Module) -> Iterator[Any]:
    """Yield the maps from names to weights that hooks hold, for copies of the model to share."""
    for hook in _hooks(model):
        for held in (getattr(hook, "weights_map", None), getattr(hook, "tied_params_map", None)):
            if held is not None:
                yield held


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the value of each weight. Offloaded ones are fetched."""
    modules = dict(model.named_modules())
    for name, weight in model.named_parameters():
        if weight.is_meta:
            module_name, _, weight_name = name.rpartition(".")
            yield name, getattr(modules[module_name], _HOOK).weights_map[weight_name]
        else:
            yield name, weight


def gpus_of(model: Any) -> list[torch.device]:
    """Return the CUDA devices that compute a model, in the order of their numbers."""
    devices = {weight.device for weight in model.parameters()} | {input_device(model)}
    return sorted((d for d in devices if d.type == "cuda"), key=lambda device: device.index)


@contextmanager
def seeded(model: Any, seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them. Other threads wait.

    These are the generators of the CPU and of the model's GPUs, not those of other GPUs.
    """
    gpus = gpus_of(model)
    with process_state, torch.random.fork_rng(devices=gpus, device_type="cuda"):
        if input_device(model).type not in {"cpu", "cuda"}:
            torch.manual_seed(seed)
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def generator_states(model: Any) -> dict[str, Tensor]:
    """Return the states of torch's global generators that `seeded` sets."""
    states = map(torch.cuda.get_rng_state, gpus_of(model))
    return {"cpu": torch.get_rng_state()} | {f"gpu {i}": s for i, s in enumerate(states)}


def set_generator_states(model: Any, states: Mapping[str, Tensor]) -> None:
    """Set the generators to what `generator_states` returned, perhaps with other devices."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    for i, gpu in enumerate(gpus_of(model)):
        if f"gpu {i}" in states:
            torch.cuda.set_rng_state(states[f"gpu {i}"], gpu)


def send(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return tensors of one data type on a device.

    They go there together, since a copy takes longer to begin than to run. From pinned memory, CUDA
    copies while the host goes on.
    """
    if device.type == "cpu":
        return list(tensors)
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    if device.type == "cuda":
        joined = joined.pin_memory()
    parts = joined.to(device, non_blocking=True).split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def send_integers(device: torch.device, *values: Any) -> list[Tensor]:
    """Return arrays or sequences of integers as tensors on a device."""
    return send([torch.from_numpy(np.asarray(each, dtype=np.int64)) for each in values], device)


def fetch(values: Tensor) -> Callable[[], NDArray[np.float64]]:
    """Begin to copy values to the host. Return what waits for them, and returns them as float64.

    CUDA copies as soon as it has computed the values, while the host goes on. Waiting for them does
    not wait for what the device was given to do afterwards.
    """
    if values.device.type != "cuda":
        return values.cpu().double().numpy
    copy = values.to("cpu", non_blocking=True)  # into pinned memory
    is_copied = torch.cuda.Event()
    is_copied.record(torch.cuda.current_stream(values.device))

    def wait() -> NDArray[np.float64]:
        is_copied.synchronize()
        return copy.double().numpy()

    return wait


def _hooks(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        hook = getattr(module, _HOOK, None)
        if hook is not None:
            yield hook
