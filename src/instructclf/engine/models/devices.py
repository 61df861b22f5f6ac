"""Names → torch devices and data types, or the best ones of this machine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from instructclf.engine.running.arithmetic import has_bfloat16_instructions
from instructclf.engine.running.processes import local_gpu
from instructclf.exceptions import (
    ModelLoadingError,
    ScoringError,
    SharedDeviceWarning,
    warn_caller,
)

DTYPES = ("float32", "bfloat16", "float16", "float64")
_WORKERS = ("LokyProcess", "ForkPoolWorker", "SpawnPoolWorker", "ForkServerPoolWorker")
"""Beginnings of the names that joblib and multiprocessing give to processes of a pool."""


def resolve_device(device: str) -> torch.device:
    """Return the device of this name; for ``"auto"`` CUDA, else Apple's GPU, else the CPU.

    CUDA without a number is the GPU of this process.

    Raises
    ------
    ModelLoadingError
        If torch does not know the name, or the device is not on this machine.
    """
    if device == "auto":
        return _best_device()
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        msg = (
            "The 'device' parameter of ModelOptions must name a torch device, such as 'cpu', "
            f"'cuda' or 'cuda:1', or be 'auto'. Got {device!r}."
        )
        raise ModelLoadingError(msg) from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        msg = (
            f"device={device!r} was requested and torch finds no CUDA device. Use "
            "model_options=ModelOptions(device='cpu')."
        )
        raise ModelLoadingError(msg)
    check_not_forked(resolved)
    if resolved.type == "cuda":
        resolved = _numbered(resolved)
    try:
        torch.zeros(1, device=resolved).tolist()  # the device "meta" holds no numbers
    except (RuntimeError, AssertionError, ImportError) as error:  # what torch's devices raise
        msg = (
            f"device={device!r} was requested and torch cannot use it on this machine. Use "
            "model_options=ModelOptions(device='cpu')."
        )
        raise ModelLoadingError(msg) from error
    return resolved


def resolve_map(device_map: str | dict[str, int | str]) -> list[torch.device]:
    """Return the devices that compute a model which is spread over them.

    Parts on the CPU or the disk come to a GPU for that, if the map names one.

    Raises
    ------
    ModelLoadingError
        If a device is not on this machine.
    """
    if isinstance(device_map, str):  # a way to fill all GPUs
        n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [resolve_device(f"cuda:{index}") for index in range(n_gpus)] or [_best_device()]
    parts = dict.fromkeys(
        f"cuda:{part}" if isinstance(part, int) else part for part in device_map.values()
    )
    computing = [part for part in map(str, parts) if part not in {"cpu", "disk"}]
    return list(map(resolve_device, computing or ["cpu"]))


def check_not_forked(device: torch.device, *, was_forked: bool | None = None) -> None:
    """Raise ``ScoringError`` if this process inherited CUDA from the one it was forked from.

    ``was_forked=None`` asks torch whether it was forked after CUDA had been used.
    """
    if was_forked is None:
        was_forked = torch.cuda._is_in_bad_fork()  # noqa: SLF001  (torch has no public way)
    if device.type == "cuda" and was_forked:
        msg = (
            "This process was forked from one that had used CUDA, which does not work in a child. "
            "Start workers afresh: with joblib's default backend (loky), with "
            "multiprocessing.get_context('spawn'), or as threads; or use no GPU before the fork."
        )
        raise ScoringError(msg)


def warn_of_shared_device(device: torch.device, process_name: str) -> None:
    """Warn if a base model is loaded onto a GPU by one of several workers.

    ``process_name`` is what multiprocessing calls this process.

    Warns
    -----
    SharedDeviceWarning
        If this is a worker of joblib or of a pool. All of them inherit the same devices.
    """
    if device.type == "cuda" and process_name.startswith(_WORKERS):
        warn_caller(
            f"{process_name} is one of several workers (n_jobs), and each of them loads a copy of "
            f"the base model onto {device}: memory use is multiplied, and workers wait for each "
            "other. With n_jobs=1 all fits share one model. For several GPUs, start one worker for "
            "each of them, as the page on scaling describes.",
            SharedDeviceWarning,
        )


def resolve_dtype(
    dtype: str, *devices: torch.device, stored: Callable[[], torch.dtype | None] = lambda: None
) -> torch.dtype:
    """Return the data type of this name; for ``"auto"`` the best one of the device.

    That is bfloat16 on CUDA. Devices without it take float16, and so does a model if one of several
    devices has none. On a CPU, it is bfloat16 if the processor has instructions for it and the
    weights are ``stored`` in bfloat16 or less, so that they lose nothing; otherwise float32.

    Raises
    ------
    ModelLoadingError
        If the name is unknown.
    """
    if dtype == "auto":
        best = {_best_dtype(device, stored) for device in devices}
        return torch.float16 if torch.float16 in best else best.pop()
    if dtype not in DTYPES:
        msg = (
            f"The 'dtype' parameter of ModelOptions must be one of {DTYPES} or 'auto'. "
            f"Got {dtype!r}."
        )
        raise ModelLoadingError(msg)
    return getattr(torch, dtype)


def _numbered(device: torch.device) -> torch.device:
    """Return a CUDA device with its number. Raise if there are fewer."""
    n_gpus = torch.cuda.device_count()
    index = local_gpu() if device.index is None else device.index
    if index >= n_gpus:
        msg = (
            f"device='cuda:{index}' was requested and torch finds {n_gpus} CUDA devices, from "
            f"'cuda:0' to 'cuda:{n_gpus - 1}'. Name one of them, or use device='auto'."
        )
        raise ModelLoadingError(msg)
    return torch.device("cuda", index)


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        check_not_forked(torch.device("cuda"))
        return torch.device("cuda", local_gpu())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _best_dtype(device: torch.device, stored: Callable[[], torch.dtype | None]) -> torch.dtype:
    if device.type == "cpu":
        is_fast = has_bfloat16_instructions() and stored() == torch.bfloat16
        return torch.bfloat16 if is_fast else torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one, and counts emulation
            is_supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_supported else torch.float16
    return torch.float16
