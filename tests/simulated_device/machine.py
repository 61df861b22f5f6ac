"""The simulated machine: its GPUs, their memory, what happened on them, and whether they broke."""

from __future__ import annotations

import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakValueDictionary, finalize

import torch

GIB = 2**30
_WATCHED = "/src/instructclf/"
"""The part of a path that tells files of the package, whose lines events are counted by."""

Kind = Literal["launch", "synchronisation", "upload", "download"]
"""A kernel launch, a wait of the host for the device, a copy from the host to the device, or the
beginning of a copy to the host, which goes on without it."""


class DeviceSideAssertError(RuntimeError):
    """What every call raises after a kernel has read or written outside of a tensor."""


@dataclass
class Gpu:
    """One GPU.

    Parameters
    ----------
    capability : tuple of int
        Its compute capability, such as (9, 0) for Hopper and (7, 5) for Turing.
    n_bytes : int
        Its memory.

    Attributes
    ----------
    n_allocated, n_peak : int
        Bytes of tensors now, and at most so far.
    random_state : Tensor
        The state of its random generator.
    """

    capability: tuple[int, int] = (9, 0)
    n_bytes: int = 80 * GIB
    n_allocated: int = 0
    n_peak: int = 0
    random_state: torch.Tensor = field(default_factory=torch.get_rng_state)


@dataclass(frozen=True)
class Event:
    """Something that costs time: its kind, the operator, and the package's line that called it."""

    kind: Kind
    operator: str
    line: str


class _Allocation:
    """Memory that all views of one tensor share. It is free when the last of them is gone."""


@dataclass(eq=False)
class Machine:
    """GPUs of one process.

    Parameters
    ----------
    gpus : list of Gpu
        The GPUs.

    Attributes
    ----------
    current : int
        The index of the device that ``"cuda"`` names.
    events : list of Event
        What happened, in order.
    failure : str
        The first index out of range and the line that used it. Nothing runs after that.
    refused : str
        The first lack of memory in a backward pass, until the pass has ended.
    """

    gpus: list[Gpu]
    current: int = 0
    events: list[Event] = field(default_factory=list)
    failure: str = ""
    refused: str = ""
    _allocations: WeakValueDictionary[int, _Allocation] = field(default_factory=WeakValueDictionary)
    _n_downloads: int = 0
    _downloads: deque[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=deque)

    def check_works(self) -> None:
        """Raise if an earlier kernel has destroyed the context, as every CUDA call does then."""
        if self.failure:
            msg = f"CUDA error: device-side assert triggered. {self.failure}"
            raise DeviceSideAssertError(msg)

    def fail(self, operator: str, error: Exception) -> DeviceSideAssertError:
        """Destroy the context. Return the error of this call."""
        self.failure = f"{operator} at {calling_line()}: {error}"
        return DeviceSideAssertError("CUDA error: device-side assert triggered")

    def note(self, kind: Kind, operator: str) -> None:
        """Count an event by the line that caused it."""
        self.events.append(Event(kind, operator, calling_line()))
        if kind == "synchronisation":
            self._finish_downloads(0)

    def count(self, kind: Kind) -> Counter[str]:
        """Return how many events of a kind each line caused."""
        return Counter(event.line for event in self.events if event.kind == kind)

    def allocate(self, tensor: torch.Tensor, index: int) -> Any:
        """Return what keeps the memory of a tensor's storage allocated on a device.

        Raises
        ------
        torch.OutOfMemoryError
            If the device has too little memory left.
        """
        storage = tensor.untyped_storage()
        found = self._allocations.get(storage.data_ptr())
        n_bytes = storage.nbytes()
        if found is not None or n_bytes == 0:
            return found
        gpu = self.gpus[index]
        if gpu.n_allocated + n_bytes > gpu.n_bytes:
            msg = (
                f"CUDA out of memory. Tried to allocate {n_bytes} bytes. GPU {index} has "
                f"{gpu.n_bytes - gpu.n_allocated} bytes free."
            )
            # An operator of a backend in Python that raises an error in a backward pass ends the
            # process: torch asks the backend for its device while the error is pending.
            if torch._C._current_autograd_node() is None:
                raise torch.OutOfMemoryError(msg)
            self.refused = self.refused or msg
        allocation = self._allocations[storage.data_ptr()] = _Allocation()
        gpu.n_allocated += n_bytes
        gpu.n_peak = max(gpu.n_peak, gpu.n_allocated)
        finalize(allocation, _free, gpu, n_bytes).atexit = False
        return allocation

    def download(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy of a tensor that has its numbers once the host has waited for them."""
        copy = torch.full_like(tensor, torch.nan)
        self._downloads.append((copy, tensor))
        self._n_downloads += 1
        return copy

    @property
    def n_downloads(self) -> int:
        """How many copies to the host have begun."""
        return self._n_downloads

    def wait(self, n_downloads: int) -> None:
        """Wait for the first copies to the host, and not for those that began later."""
        self.check_works()
        self.events.append(Event("synchronisation", "synchronize", calling_line()))
        self._finish_downloads(self._n_downloads - n_downloads)

    def _finish_downloads(self, n_left: int) -> None:
        while len(self._downloads) > n_left:
            copy, tensor = self._downloads.popleft()
            with torch.inference_mode():
                copy.copy_(tensor)

    def raise_refused(self) -> None:
        """Raise the error of a backward pass that has ended."""
        msg, self.refused = self.refused, ""
        if msg:
            raise torch.OutOfMemoryError(msg)


class Mark:
    """A mark in the work that a device was given, as `torch.cuda.Event` is."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def record(self, *_: Any) -> None:
        """Set the mark after all work so far."""
        self._n_downloads = self._machine.n_downloads

    def synchronize(self) -> None:
        """Wait until the device has come here."""
        self._machine.wait(self._n_downloads)


def calling_line() -> str:
    """Return the innermost line of the package that runs, such as ``"scoring/forward.py:34"``."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if _WATCHED in path:
            return f"{path.split(_WATCHED)[1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the package"


def _free(gpu: Gpu, n_bytes: int) -> None:
    gpu.n_allocated -= n_bytes
