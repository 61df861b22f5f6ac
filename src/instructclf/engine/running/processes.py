"""The processes of one job: the rank of this one, and the exchange of values between them.

``torchrun`` and ``accelerate launch`` start the same script several times. Each process holds the
whole model and all rows. It computes its part of a batch or of a prediction into an array of zeros,
and the sum over the processes is the whole.

No process waits for one that failed. Every exchange begins with a message from each process: that
it works, or which error it raised. A process that fails sends its message in place of its next
exchange. One more exchange, when the shared work ends, makes sure that the others receive it.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from instructclf.exceptions import OtherProcessError

_Value = TypeVar("_Value")

_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """The processes that share work, seen from one of them.

    Parameters
    ----------
    rank : int, default=0
        The number of this process.
    size : int, default=1
        The number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def local_rows(self) -> slice:
        """Return the part of any rows that this process computes."""
        return slice(self.rank, None, self.size)

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over the processes, equal to the last bit in all of them."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        self._exchange([total], distributed.all_reduce)
        return total.numpy()

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Replace each weight's gradient by its sum over the processes. None counts as zero."""
        if self.size == 1:
            return
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self._exchange([w.grad for w in weights if w.grad is not None], distributed.all_reduce)

    def copy_from_first(self, weights: Sequence[nn.Parameter]) -> None:
        """Give weights the values that they have in the first process."""
        if self.size > 1:
            self._exchange([weight.detach() for weight in weights], _broadcast)

    def from_first(self, value: _Value) -> _Value:
        """Return the value of the first process."""
        return self._gather(value if self.rank == 0 else None)[0]

    def check_alike(self, rows: Sequence[object], what: str) -> None:
        """Raise an error in every process if one has other rows than the first.

        Raises
        ------
        ValueError
            If the rows differ.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256(repr(list(rows)).encode("utf-8", "surrogatepass")).hexdigest()
        digests = self._gather(digest)
        others = [rank for rank, found in enumerate(digests) if found != digests[0]]
        if others:
            msg = (
                f"Process {others[0]} of {self.size} was given other {what} than process 0. Give "
                "each process all rows, in the same order: they are shared out here. Or set "
                "distributed=None, and each process works by itself."
            )
            raise ValueError(msg)

    def agree_on(
        self, generator: np.random.RandomState, *, is_given: bool
    ) -> np.random.RandomState:
        """Return a generator that draws the same numbers in every process.

        One that was not given is NumPy's global one, and only draws a seed.
        """
        if self.size == 1:
            return generator
        if not is_given:
            seed = int(generator.randint(np.iinfo(np.int32).max))
            return np.random.RandomState(self.from_first(seed))
        generator.set_state(self.from_first(generator.get_state()))
        return generator

    def report(self, error: BaseException) -> None:
        """Tell the other processes that this one failed."""
        self._gather(None, f"{type(error).__name__}: {error}")

    def wait(self) -> None:
        """Wait until the other processes come here too, or raise an error if one failed."""
        self._gather(None)

    def _gather(self, value: Any, failure: str = "") -> list[Any]:
        """Return the value of every process, or raise an error if another one failed."""
        if self.size == 1:
            return [value]
        messages: list[Any] = [None] * self.size
        with _explaining_lost_processes():
            distributed.all_gather_object(messages, (failure, value))
        for rank, (other_failure, _) in enumerate(messages):
            if other_failure and not failure:
                msg = (
                    f"Process {rank} of {self.size} failed, and all stop with it. "
                    f"It said: {other_failure}"
                )
                raise OtherProcessError(msg)
        return [found for _, found in messages]

    def _exchange(self, tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> None:
        """Replace tensors in place by the result of an exchange, one for each type and device."""
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for (_, device), members in kinds.items():
            flat = torch.cat([tensor.reshape(-1) for tensor in members])
            flat = flat.to(_exchange_device(self, device))
            self.wait()
            with _explaining_lost_processes():
                exchange(flat)
            for tensor, part in zip(members, flat.split([t.numel() for t in members]), strict=True):
                tensor.copy_(part.view_as(tensor))


@cache
def _exchange_device(processes: Processes, device: torch.device) -> torch.device:
    """Return where tensors of a device are exchanged: there if the group can do that."""
    backend = distributed.get_backend()
    if device.type == "cpu":  # a group of NCCL alone exchanges nothing that is on the CPU
        return torch.device("cuda", local_gpu()) if backend == "nccl" else device
    if "nccl" not in backend:
        return torch.device("cpu")
    # NCCL refuses processes that share a GPU.
    gpu = str(torch.cuda.get_device_properties(device).uuid)
    gpus = processes._gather(gpu)  # noqa: SLF001  (a function of the class)
    return device if len(set(gpus)) == processes.size else torch.device("cpu")


ALONE = Processes()
"""A single process, which computes everything."""

_current: ContextVar[Processes] = ContextVar("processes", default=ALONE)


def current_processes() -> Processes:
    """Return the processes of the innermost ``sharing_work``, or this process alone."""
    return _current.get()


@contextmanager
def sharing_work(way: str | None) -> Iterator[Processes]:
    """Share the work inside with the other processes of the job, which must all come here.

    Raises
    ------
    OtherProcessError
        If another process failed, or has ended.
    """
    outer = current_processes()
    processes = outer if outer.size > 1 or way is None else _find_processes()
    if processes == outer:
        yield outer
        return
    token = _current.set(processes)
    try:
        yield processes
        processes.wait()
    except OtherProcessError:
        raise
    except BaseException as error:
        with suppress(OtherProcessError):  # the others have failed too, after this error
            processes.report(error)
        raise
    finally:
        _current.reset(token)


def is_first_process() -> bool:
    """Say whether this process shows progress bars and writes files."""
    if _has_group():
        return distributed.get_rank() == 0
    return not was_launched(os.environ) or int(os.environ["RANK"]) == 0


def was_launched(environment: Mapping[str, str]) -> bool:
    """Say whether environment variables show that a launcher has started several processes."""
    has_all = all(name in environment for name in _LAUNCHER_VARIABLES)
    return has_all and int(environment["WORLD_SIZE"]) > 1


def local_gpu() -> int:
    """Return the index of this process's GPU: the current one, or that of its rank in a job."""
    n_gpus, current = torch.cuda.device_count(), torch.cuda.current_device()
    if not was_launched(os.environ):
        return current
    return current or int(os.environ.get("LOCAL_RANK", os.environ["RANK"])) % n_gpus


def _find_processes() -> Processes:
    # Threads would exchange in a different order in each process.
    if threading.current_thread() is not threading.main_thread():
        return ALONE
    # A worker process inherits the variables of the process that started it, but not its rank.
    is_worker = multiprocessing.current_process().name != "MainProcess"
    if not _has_group() and not is_worker and was_launched(os.environ):
        _make_group()
    if not _has_group():
        return ALONE
    return Processes(distributed.get_rank(), distributed.get_world_size())


def _make_group() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(local_gpu())
    # This module keeps the group that exists when it is imported, as the default of its functions.
    # Transformers imports it. A group that is kept cannot be left, and its threads then abort some
    # processes when they end.
    importlib.import_module("torch.distributed.nn.functional")
    has_nccl = torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if has_nccl else "gloo")
    atexit.register(_leave_group)


def _leave_group() -> None:
    if _has_group():
        distributed.destroy_process_group()


_inherited_group = False


def _has_group() -> bool:
    return distributed.is_available() and distributed.is_initialized() and not _inherited_group


def _note_inherited_group() -> None:
    """Remember in a forked child that the group belongs to its parent."""
    global _inherited_group  # noqa: PLW0603  (what a process is made with)
    _inherited_group = distributed.is_available() and distributed.is_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_inherited_group)


def _broadcast(tensor: Tensor) -> None:
    distributed.broadcast(tensor, src=0)


@contextmanager
def _explaining_lost_processes() -> Iterator[None]:
    """Explain why an exchange broke off, and what to do about it."""
    try:
        yield
    except RuntimeError as error:
        msg = (
            "Another process of this job is gone, or did not come in time. fit, predict and score "
            "must be called in every process; to call them in one only, set distributed=None. "
            f"torch said: {error}"
        )
        raise OtherProcessError(msg) from error
