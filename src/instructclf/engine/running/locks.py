"""Locks around state that exists once per process. A forked child finds them open.

torch, transformers, PEFT and tokenizers keep some of their state once per process: the random
generators, the default data type, the functions that initialise weights (replaced while a model is
loaded), how a tokenizer reads special tokens. Threads that change it take turns.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType


class ProcessLock:
    """A re-entrant lock. A child that was forked while another thread held it finds it open."""

    def __init__(self) -> None:
        self._of_process: dict[int, threading.RLock] = {}

    def __enter__(self) -> None:
        # Looked up by process: hooks of os.fork run neither on Windows nor in uWSGI.
        self._of_process.setdefault(os.getpid(), threading.RLock()).acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._of_process[os.getpid()].release()


process_state = ProcessLock()
"""Held while state of torch, transformers or PEFT is changed that exists once per process."""
tokenizer_state = ProcessLock()
"""Held during calls of a tokenizer, which set how it reads special tokens for all its users."""
offloaded_weights = ProcessLock()
"""Held while a model with offloaded weights runs: its views count together which are loaded."""
module_state = ProcessLock()
"""Held while the way a module runs is changed, if another thread may be running it."""
