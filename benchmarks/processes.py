"""What a new process of a benchmark runs, and its time and memory. It imports no torch."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from pathlib import Path

MARK = "RESULT "
_MEMORY = {"peak_mib": "VmHWM", "resident_mib": "VmRSS", "anonymous_mib": "RssAnon"}


def process_status() -> dict[str, float]:
    """Return what Linux says of this process' memory, in MiB. Empty elsewhere."""
    path = Path("/proc/self/status")
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith(("Vm", "Rss")))
    return {name: int(value.split()[0]) / 1024 for name, value in pairs}


def reset_peak() -> bool:
    """Let the peak begin again, and say whether that was possible. Only Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


class Stages:
    """CPU seconds and memory of one stage after the other, on Linux."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._start = time.process_time()

    def end(self, name: str) -> None:
        """Note the time since the last stage, its peak, and the memory now."""
        seconds, status = time.process_time() - self._start, process_status()
        self.found[name] = {"cpu_s": seconds} | {to: status[of] for to, of in _MEMORY.items()}
        gc.collect()
        reset_peak()
        self._start = time.process_time()


def _answer(entry: str, arguments: str) -> None:
    module, _, function = entry.partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    _answer(sys.argv[1], sys.stdin.read())
