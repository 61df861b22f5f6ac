"""Time, memory, arithmetic and versions: how all benchmarks measure.

Seconds are CPU seconds of this process; wall-clock seconds are kept too. With one thread, CPU
seconds measure the work, and other programs hardly change them. Variants are interleaved over
rounds in one process, so that a slow minute slows all of them; every measurement is kept.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import processes
import torch
from processes import MARK, process_status, reset_peak
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from instructclf.engine.running.arithmetic import product

MIB = 2**20
PACKAGES = (
    "instructclf", "torch", "transformers", "tokenizers", "peft", "scikit-learn", "numpy",
    "skorch", "setfit", "sentence-transformers", "lm-eval", "trl", "accelerate",
    "anyjev", "any2jev",
)  # fmt: skip
RESULTS = Path(__file__).with_name("results")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Settings:
    """The options of the command line for every benchmark.

    Parameters
    ----------
    models : tuple of str
        ``"smollm2"`` and ``"bundled"``, or one of them.
    rounds : int
        How often each variant is measured.
    toy : bool
        Whether to run tiny sizes, in seconds, to see that everything works.
    threads : int
        Threads of torch and of the tokenizers.
    out : Path
        The folder of the JSON and the tables.
    seed : int
        Decides texts, shots and random weights.
    """

    models: tuple[str, ...] = ("smollm2", "bundled")
    rounds: int = 3
    toy: bool = False
    threads: int = 1
    out: Path = RESULTS
    seed: int = 0


# Time


@dataclass(frozen=True)
class Timing:
    """CPU seconds of one measurement, all threads together, and wall-clock seconds."""

    cpu_s: float
    wall_s: float


def timed(call: Callable[[], Any]) -> tuple[Any, Timing]:
    """Return the value of a call, and how long it took."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    value = call()
    return value, Timing(time.process_time() - cpu, time.perf_counter() - wall)


def interleave(
    calls: Mapping[str, Callable[[], Any]], rounds: int, *, warm_up: bool = False
) -> dict[str, list[Timing]]:
    """Time every call once a round, beginning with another one each round.

    Parameters
    ----------
    calls : mapping of str to callable
        The variants.
    rounds : int
        How often each is timed.
    warm_up : bool, default=False
        Whether each runs once before, untimed.

    Returns
    -------
    dict of str to list of Timing
        All measurements.
    """
    names = list(calls)
    if warm_up:
        for call in calls.values():
            call()
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            _, timing = timed(calls[name])
            timings[name].append(timing)
    return timings


def median(timings: Sequence[Timing], per: float = 1.0) -> Timing:
    """Return the median CPU and wall-clock seconds, divided by ``per``."""
    return Timing(
        statistics.median(timing.cpu_s for timing in timings) / per,
        statistics.median(timing.wall_s for timing in timings) / per,
    )


def as_json(timings: Sequence[Timing]) -> list[dict[str, float]]:
    """Return measurements as JSON holds them."""
    return [asdict(timing) for timing in timings]


def set_threads(threads: int) -> None:
    """Limit the threads of this process and of those it starts. Call it before anything else."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here needs the network
    torch.set_num_threads(threads)


# Memory


@dataclass
class PeakMemory:
    """Resident memory in MiB: before ``peak_memory``, and at its highest inside."""

    before: float = 0.0
    peak: float = 0.0
    is_reset: bool = field(default=True)

    @property
    def extra(self) -> float:
        """The increase."""
        return self.peak - self.before


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Measure the peak of resident memory inside the block.

    On Linux the kernel's high-water mark is reset first. If that is not possible (``is_reset`` is
    false), the mark is that of the process since its start: measure in a new process.
    """
    gc.collect()
    _return_free_memory()
    memory = PeakMemory()
    memory.is_reset = reset_peak()
    memory.before = resident_mib()
    yield memory
    memory.peak = peak_mib()


def resident_mib() -> float:
    """Return the resident memory of this process."""
    status = process_status()
    return status["VmRSS"] if status else peak_mib()


def peak_mib() -> float:
    """Return the highest resident memory of this process, since its start or the last reset."""
    status = process_status()
    if status:
        return status["VmHWM"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def _return_free_memory() -> None:
    """Return freed memory to the system, so that using it again counts."""
    library = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(library), "malloc_trim", None) if library else None
    if trim is not None:
        trim(0)


# New processes


def run_fresh(entry: str, **arguments: Any) -> Any:
    """Run a function in a new interpreter and return its result.

    Parameters
    ----------
    entry : str
        ``"module:function"`` of this folder.
    **arguments
        Its keyword arguments. JSON must be able to hold them and the result.

    Returns
    -------
    object
        The result.

    Raises
    ------
    RuntimeError
        If the process failed, with its output.
    """
    command = [sys.executable, processes.__file__, entry]
    done = subprocess.run(
        command, input=json.dumps(arguments), capture_output=True, text=True, check=False
    )
    results = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not results:
        msg = f"{entry} failed in a new process:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        raise RuntimeError(msg)
    return json.loads(results[-1].removeprefix(MARK))


def run_fresh_each(
    entry: str, arguments: Mapping[str, Mapping[str, Any]], *, at_once: int = 2
) -> dict[str, Any]:
    """Run a function in a new interpreter for each set of arguments, several at a time.

    For memory only: processes that run at the same time slow each other down.
    """
    with ThreadPoolExecutor(at_once) as pool:
        running = {
            name: pool.submit(run_fresh, entry, **options) for name, options in arguments.items()
        }
        return {name: future.result() for name, future in running.items()}


# Arithmetic


def matrix_multiply_rate(
    shapes: Sequence[tuple[int, int, int]], *, repeats: int = 3, seconds: float = 0.25
) -> float:
    """Return the arithmetic speed of float32 matrix products, in GFLOP per CPU second.

    That of the faster one of torch's two libraries, MKL and oneDNN.

    Parameters
    ----------
    shapes : sequence of (int, int, int)
        Rows, inputs and outputs of each product. They run in turn, as in a layer of a model.
    repeats : int, default=3
        How many times all products are timed. The best one is the ceiling.
    seconds : float, default=0.25
        Roughly how long each takes.

    Returns
    -------
    float
        2 · rows · inputs · outputs over seconds, summed over the shapes.
    """
    operands = [(torch.randn(m, k), torch.randn(n, k)) for m, k, n in shapes]
    n_operations = sum(2 * m * k * n for m, k, n in shapes)
    loops = max(1, int(seconds * 8e10 / n_operations))

    def multiply(function: Callable[..., Any]) -> None:
        for _ in range(loops):
            for left, right in operands:
                function(left, right)

    times = []
    with torch.inference_mode():
        for function in (torch.nn.functional.linear, product):
            multiply(function)
            times += [timed(partial(multiply, function))[1].cpu_s for _ in range(repeats)]
    best = min(times)
    return n_operations * loops / best / 1e9


@contextmanager
def embedded_tokens() -> Iterator[list[int]]:
    """Record how many tokens each call of an embedding layer of any model takes."""
    counts: list[int] = []

    def count(module: Any, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding):
            counts.append(inputs[0].numel())

    handle = register_module_forward_pre_hook(count)
    try:
        yield counts
    finally:
        handle.remove()


# Versions and machine


def environment(settings: Settings) -> dict[str, Any]:
    """Return versions, processor, threads and date, but nothing that identifies the machine."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "rounds": settings.rounds,
        "toy": settings.toy,
        "seed": settings.seed,
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the code, or ``None`` outside a repository."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    vector = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if _has(lines, name)]
    return " ".join([names[0] if names else platform.machine(), *vector])


def _has(lines: Sequence[str], flag: str) -> bool:
    return any(line.startswith("flags") and flag in line.split() for line in lines)
