"""Processes that work on one job: which of them this is, and sums over all of them.

``torchrun`` and ``accelerate launch`` start the same script several times. Each process holds the
whole model and all rows; it computes its part of a batch or of a prediction, and a sum over the
processes makes the whole of it. Sums are all there is: rows are filled into zeros at their places.

Nobody waits for a process that failed. Before each exchange every process says whether it is well,
and one that fails says so in place of its next exchange, or of the last one, at the end of the job.
"""

from __future__ import annotations

import atexit
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from instructclf.exceptions import OtherProcessError

_Value = TypeVar("_Value")

_SAID_BY_LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """The processes of a job, seen from one of them.

    Parameters
    ----------
    rank : int, default=0
        Which one this is.
    size : int, default=1
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def own_rows(self) -> slice:
        """Which of any rows are this process's part."""
        return slice(self.rank, None, self.size)

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of what each process gives, the same to the last bit in all of them."""
        if self.size == 1:
            return values
        self._meet()
        total = torch.from_numpy(np.array(values, dtype=np.float64)).to(_host_device())
        with _noticing_losses():
            distributed.all_reduce(total)
        return total.cpu().numpy()

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Replace each weight's gradient by its sum over the processes. None counts as zero."""
        if self.size == 1:
            return
        self._meet()
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        for weight, total in zip(
            weights, _exchange(gradients, distributed.all_reduce), strict=True
        ):
            weight.grad = total

    def copy_from_first(self, weights: Sequence[nn.Parameter]) -> None:
        """Give weights the values that they have in the first process."""
        if self.size == 1:
            return
        self._meet()
        values = [weight.detach() for weight in weights]
        for value, own in zip(_exchange(values, _broadcast), values, strict=True):
            own.copy_(value)

    def from_first(self, value: _Value) -> _Value:
        """Return what the first process gives."""
        if self.size == 1:
            return value
        self._meet()
        values = [value]
        with _noticing_losses():
            distributed.broadcast_object_list(values, src=0, device=_host_device())
        return values[0]

    def check_alike(self, rows: Sequence[object], what: str) -> None:
        """Raise unless every process has these rows.

        Parameters
        ----------
        rows : sequence of object
            The rows.
        what : str
            What to call them.

        Raises
        ------
        ValueError
            In every process, if one was given others.
        """
        if self.size == 1:
            return
        own = hashlib.sha256(repr(list(rows)).encode("utf-8", "surrogatepass")).hexdigest()
        found = self._gather(own)
        others = [rank for rank, digest in enumerate(found) if digest != found[0]]
        if others:
            msg = (
                f"Process {others[0]} of {self.size} was given other {what} than process 0. Give "
                "each process all rows, in the same order: they are shared out here. Or set "
                "distributed=None, and each process works by itself."
            )
            raise ValueError(msg)

    def agree_on(self, generator: np.random.RandomState, *, is_own: bool) -> np.random.RandomState:
        """Return a generator that draws the same numbers in every process.

        Parameters
        ----------
        generator : RandomState
            What this process has.
        is_own : bool
            Whether it was given. Otherwise it is NumPy's global one, and only draws a seed.
        """
        if self.size == 1:
            return generator
        if not is_own:
            seed = int(generator.randint(np.iinfo(np.int32).max))
            return np.random.RandomState(self.from_first(seed))
        generator.set_state(self.from_first(generator.get_state()))
        return generator

    def _gather(self, value: str) -> list[str]:
        self._meet()
        return _gather(value, self.size)

    def _meet(self) -> None:
        """Go on together, or stop together."""
        self._report(None)

    def _report(self, error: BaseException | None) -> None:
        """Tell the others that this process is well, or that it failed, and hear the same."""
        n_failed = torch.tensor([float(error is not None)], device=_host_device())
        with _noticing_losses():
            distributed.all_reduce(n_failed)
        if not n_failed.item():
            return
        said = "" if error is None else f"{type(error).__name__}: {error}"
        messages = _gather(said, self.size)
        if error is None:
            rank, message = next((rank, said) for rank, said in enumerate(messages) if said)
            msg = f"Process {rank} of {self.size} failed, and all stop with it. It said: {message}"
            raise OtherProcessError(msg)


ALONE = Processes()
"""One process that does everything."""

_current: ContextVar[Processes] = ContextVar("processes", default=ALONE)


def current_processes() -> Processes:
    """Return the processes that share the work at hand: those of ``sharing_work``, or this one."""
    return _current.get()


@contextmanager
def sharing_work(way: str | None) -> Iterator[Processes]:
    """Share the work inside with the other processes of the job. All of them must come here.

    Parameters
    ----------
    way : {"auto"} or None
        ``"auto"`` shares it where a launcher has started several processes, or torch has a process
        group. ``None`` does all of it here.

    Yields
    ------
    Processes
        Who shares it. Within another such context, who shares that.

    Raises
    ------
    OtherProcessError
        If another process failed, or is gone.
    """
    processes = current_processes()
    if processes.size > 1 or way is None:
        yield processes
        return
    processes = _find_processes()
    if processes.size == 1:
        yield processes
        return
    token = _current.set(processes)
    try:
        yield processes
        processes._meet()  # noqa: SLF001  (this module's own)
    except OtherProcessError:
        raise
    except BaseException as error:
        with suppress(OtherProcessError):  # gone as well: this error came first
            processes._report(error)  # noqa: SLF001
        raise
    finally:
        _current.reset(token)


def is_first_process() -> bool:
    """Say whether this process writes what is written once: bars and files."""
    if _has_group():
        return distributed.get_rank() == 0
    return not was_launched(os.environ) or int(os.environ["RANK"]) == 0


def was_launched(environment: Mapping[str, str]) -> bool:
    """Say whether a launcher has started this process as one of several.

    Parameters
    ----------
    environment : mapping of str to str
        The environment variables.

    Returns
    -------
    bool
        Whether torch could make a process group from them.
    """
    is_said = all(name in environment for name in _SAID_BY_LAUNCHERS)
    return is_said and int(environment["WORLD_SIZE"]) > 1


def _find_processes() -> Processes:
    # Threads would exchange in an order of their own in each process.
    if threading.current_thread() is not threading.main_thread():
        return ALONE
    # A worker process inherits the variables of the process that started it, not its place.
    is_worker = multiprocessing.current_process().name != "MainProcess"
    if not _has_group() and not is_worker and was_launched(os.environ):
        _make_group()
    if not _has_group():
        return ALONE
    return Processes(distributed.get_rank(), distributed.get_world_size())


def _make_group() -> None:
    if torch.cuda.is_available():
        own = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
        torch.cuda.set_device(own % torch.cuda.device_count())
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
    atexit.register(_leave_group)


def _leave_group() -> None:
    if _has_group():
        distributed.destroy_process_group()


_inherited_group = False


def _has_group() -> bool:
    return distributed.is_available() and distributed.is_initialized() and not _inherited_group


def _note_inherited_group() -> None:
    """Remember in a forked child that the group is its parent's."""
    global _inherited_group  # noqa: PLW0603  (what a process is made with)
    _inherited_group = distributed.is_available() and distributed.is_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_inherited_group)


def _host_device() -> torch.device:
    """Return where small things must lie to be exchanged. NCCL alone takes nothing from the CPU."""
    if distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _exchange(tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> list[Tensor]:
    """Send tensors through an exchange as one, and return what became of each."""
    kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
    found: dict[int, Tensor] = {}
    for dtype, device in sorted(kinds, key=str):
        places = [i for i, t in enumerate(tensors) if (t.dtype, t.device) == (dtype, device)]
        flat = torch.cat([tensors[i].reshape(-1) for i in places])
        if device.type == "cpu":
            flat = flat.to(_host_device())
        with _noticing_losses():
            exchange(flat)
        parts = flat.to(device).split([tensors[i].numel() for i in places])
        found |= {i: part.view_as(tensors[i]) for i, part in zip(places, parts, strict=True)}
    return [found[i] for i in range(len(tensors))]


def _broadcast(tensor: Tensor) -> None:
    distributed.broadcast(tensor, src=0)


def _gather(value: str, size: int) -> list[str]:
    values: list[str] = [""] * size
    with _noticing_losses():
        distributed.all_gather_object(values, value)
    return values


@contextmanager
def _noticing_losses() -> Iterator[None]:
    """Say what it means that an exchange broke off."""
    try:
        yield
    except RuntimeError as error:
        msg = (
            "Another process of this job is gone, or did not come in time. fit, predict and score "
            "must be called in every process; to call them in one only, set distributed=None. "
            f"torch said: {error}"
        )
        raise OtherProcessError(msg) from error
