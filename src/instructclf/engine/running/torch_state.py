"""The state of torch that this package computes in, whatever its caller has set.

Autocast, gradients, the default data type and device change what torch computes, or make it fail.
So does a fork: the threads of the parent do not exist in the child, which would wait for them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from instructclf.engine.running.locks import ProcessLock, process_state

_logger = logging.getLogger(__name__)

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def own_torch_state(*, inference: bool) -> Iterator[None]:
    """Compute inside the block without autocast, with new tensors in float32 and on the CPU.

    Gradients are recorded, unless this is inference. Afterwards the state is that of the caller.
    """
    _threads.check()
    with torch.inference_mode(inference), _float32, ExitStack() as states:
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                states.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":  # faster than get_default_device
            states.enter_context(torch.device("cpu"))
        yield


class _Float32:
    """Makes float32 the default data type, which all threads share, while any of them computes."""

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._inside: list[None] = []  # an entry a thread: a list counts without a lock
        self._outside: torch.dtype | None = None

    def __enter__(self) -> None:
        self._inside.append(None)
        if self._outside is not None:
            with self._lock:  # wait while the last thread restores the type
                pass
        if torch.get_default_dtype() != torch.float32:
            with process_state, self._lock:  # wait while a model is loaded, which changes it too
                found = torch.get_default_dtype()
                if found != torch.float32:
                    self._outside = found
                    torch.set_default_dtype(torch.float32)

    def __exit__(self, *error: object) -> None:
        self._inside.pop()
        if self._outside is not None:
            with self._lock:
                if self._outside is not None and not self._inside:
                    torch.set_default_dtype(self._outside)
                    self._outside = None


class _Threads:
    """Remembers whether a process has computed with threads, which its forked children lack."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._has_threads = False
        self._lost_threads = False

    def check(self) -> None:
        """Let a child whose parent has computed with several threads compute with one."""
        n_threads = torch.get_num_threads()
        if self._process != os.getpid():
            self._process = os.getpid()
            self._lost_threads = self._lost_threads or self._has_threads
        if n_threads > 1 and self._lost_threads:
            torch.set_num_threads(1)
            _logger.warning(
                "This process was forked from one that had computed with several threads, which do "
                "not exist here. It computes with one. See the how-to page on web servers."
            )
        self._has_threads = self._has_threads or n_threads > 1


_float32 = _Float32()
_threads = _Threads()
