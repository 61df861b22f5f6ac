"""Measure the time and memory that loading a GGUF file takes, each time in a new process.

    python benchmarks/loading.py                       both real models, both data types
    python benchmarks/loading.py --model smollm2 --dtype bfloat16 --rounds 1
    python benchmarks/loading.py --table               the table from the existing JSON

``--model`` takes ``gemma3``, ``smollm2`` or a GGUF file. Imports are measured apart. Measurements
go into ``results/loading.json``, and the table into ``results/loading.md``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import (
    RESULTS,
    Settings,
    environment,
    peak_memory,
    resident_mib,
    run_fresh,
    set_threads,
    timed,
)
from tables import Table, load_record, number, page, save_page, save_record, times

FIRST, NEXT = "instructclf, first time", "instructclf, next time"
OFF, THEIRS = "instructclf, converting nothing", "transformers, gguf_file="
VARIANTS = (FIRST, NEXT, OFF, THEIRS)
DTYPES = ("bfloat16", "float32")


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=arguments.rounds, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    if not arguments.table:
        record = {"environment": environment(settings), "cases": measure(arguments, settings)}
        save_record(record, "loading", settings.out)
    record = load_record("loading", settings.out)
    text = page(record, [tabulate(record)])
    print(text, flush=True)
    save_page(text, "loading", settings.out)


def measure(arguments: argparse.Namespace, settings: Settings) -> list[dict[str, Any]]:
    """Load each model in each type and each way, with caches that are empty at first."""
    from models import find_model  # noqa: PLC0415  (imports transformers, which new processes time)

    cases = []
    for model, dtype in itertools.product(arguments.model, arguments.dtype):
        path = find_model(model)
        runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        for _ in range(settings.rounds):
            with tempfile.TemporaryDirectory() as home:
                for variant, found in runs.items():
                    options = {"path": path, "dtype": dtype, "home": home, "variant": variant}
                    found.append(run_fresh("loading:load", **options, threads=settings.threads))
        cases.append({"model": Path(path).name, "dtype": dtype, "runs": runs})
    return cases


def load(*, path: str, dtype: str, home: str, variant: str, threads: int) -> dict[str, float]:
    """Load a model and its tokenizer, and then use it once."""
    set_threads(threads)
    os.environ["HF_HOME"] = home
    os.environ["INSTRUCTCLF_GGUF_CACHE"] = "0" if variant == OFF else "1"
    start = time.process_time()
    load_it = _import_theirs() if variant == THEIRS else _import_ours()
    imports = time.process_time() - start
    with peak_memory() as used:
        (model, tokenizer), timing = timed(lambda: load_it(path, getattr(torch, dtype)))
    with torch.inference_mode():
        model(**tokenizer("A text.", return_tensors="pt"))
    weights = {weight.data_ptr(): weight.nbytes for weight in model.parameters()}
    return {
        "import_cpu_s": imports,
        "cpu_s": timing.cpu_s,
        "wall_s": timing.wall_s,
        "peak_mib": used.extra,
        "used_mib": resident_mib() - used.before,
        "weights_mib": sum(weights.values()) / 2**20,
    }


def _import_ours() -> Any:
    import transformers.modeling_utils  # noqa: F401, PLC0415  (which any model imports)

    from instructclf.engine.models.loading import load_base_model  # noqa: PLC0415  (timed)

    def load_ours(path: str, dtype: torch.dtype) -> tuple[Any, Any]:
        base = load_base_model(path, device=torch.device("cpu"), dtype=dtype)
        return base.model, base.tokenizer

    return load_ours


def _import_theirs() -> Any:
    import transformers.modeling_utils  # noqa: F401, PLC0415  (which any model imports)
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415  (timed)

    def load_theirs(path: str, dtype: torch.dtype) -> tuple[Any, Any]:
        place = {"pretrained_model_name_or_path": Path(path).parent, "gguf_file": Path(path).name}
        unpacked = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            **place, dtype=dtype, quantization_config=unpacked
        )
        return model, AutoTokenizer.from_pretrained(**place)

    return load_theirs


def tabulate(record: dict[str, Any]) -> Table:
    """Return one row for each model, type and way."""
    rows = []
    for case in record["cases"]:
        for variant, runs in case["runs"].items():
            found = {name: median(run[name] for run in runs) for name in runs[0]}
            rows.append(
                [
                    *(case["model"], case["dtype"], variant),
                    *(number(found[name]) for name in ("cpu_s", "wall_s", "import_cpu_s")),
                    *(number(found[name]) for name in ("weights_mib", "peak_mib")),
                    times(found["peak_mib"] / found["weights_mib"]),
                    number(found["used_mib"]),
                ]
            )
    return Table(
        "Loading a GGUF file",
        [
            *("model", "type", "with", "CPU s", "wall s", "imports, CPU s", "weights, MiB"),
            *("peak, MiB", "peak over weights", "after a first text, MiB"),
        ],
        rows,
        [
            "Medians. Memory is resident memory above that after the imports. Converted weights "
            "are mapped from their files, and become resident when they are first used."
        ],
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="default: gemma3 and smollm2")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the table again")
    arguments = parser.parse_args()
    arguments.model = arguments.model or ["gemma3", "smollm2"]
    arguments.dtype = arguments.dtype or list(DTYPES)
    return arguments


if __name__ == "__main__":
    main()
