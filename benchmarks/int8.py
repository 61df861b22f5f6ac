"""Whether int8 could be faster than half precision: the matrix products of a real model in both.

    python benchmarks/int8.py                        both real models
    python benchmarks/int8.py --model smollm2 --tokens 512
    python benchmarks/int8.py --table                the table from the existing JSON

``--model`` takes ``gemma3``, ``smollm2``, a GGUF file or a folder. All linear layers of a model are
run on the same random activations, in float32, in bfloat16, and with int8 weights by channel in
torch's engines for dynamic quantization, which also quantise the activations. *bare* is the int8
product alone, of activations that somebody else has quantised, which bounds what any engine could
reach. Attention, norms and all else take the same time in each, so the whole job gains less than
its matrix products. Kinds take turns, and the fastest round counts. Measurements go into
``results/int8.json``, and the table into ``results/int8.md``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import RESULTS, Settings, environment, set_threads
from models import find_model
from tables import TIMES, Table, load_record, number, page, save_page, save_record
from torch import Tensor, nn

from instructclf.engine.models.loading import load_base_model

ENGINES = ("x86", "fbgemm", "onednn")
_WORTHWHILE = 1.2
"""How many times as fast the whole job would have to be for int8 to be offered."""
Shape = tuple[int, int]
"""The inputs and outputs of a linear layer."""


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=arguments.rounds, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    if not arguments.table:
        record: dict[str, Any] = {"environment": environment(settings), "cases": []}
        for model in arguments.model:
            shapes = count_shapes(find_model(model))
            for n_tokens in arguments.tokens:
                seconds = measure(shapes, n_tokens, settings.rounds)
                case = {"model": model, "n_tokens": n_tokens, "seconds": seconds}
                record["cases"].append(case | {"operations": n_tokens * _n_operations(shapes)})
                save_record(record, "int8", settings.out)
    record = load_record("int8", settings.out)
    text = page(record, [tabulate(record)])
    print(text, flush=True)
    save_page(text, "int8", settings.out)


def count_shapes(path: str) -> dict[Shape, int]:
    """Return how often each shape of linear layer occurs between a model's input and output."""
    base = load_base_model(path, device=torch.device("cpu"), dtype=torch.bfloat16)
    output = base.model.get_output_embeddings()
    counts: dict[Shape, int] = {}
    for module in base.model.modules():
        if isinstance(module, nn.Linear) and module is not output:
            shape = module.in_features, module.out_features
            counts[shape] = counts.get(shape, 0) + 1
    return counts


def _n_operations(shapes: dict[Shape, int]) -> int:
    """Return the multiplications and additions for a token."""
    return sum(2 * n_inputs * n_outputs * n for (n_inputs, n_outputs), n in shapes.items())


def measure(shapes: dict[Shape, int], n_tokens: int, rounds: int) -> dict[str, float]:
    """Return the CPU seconds of all products of a model in each kind."""
    total: dict[str, float] = {}
    for shape, n_layers in shapes.items():
        kinds = _make_kinds(shape, n_tokens)
        fastest = dict.fromkeys(kinds, float("inf"))
        for _ in range(rounds):
            for kind, run in kinds.items():
                fastest[kind] = min(fastest[kind], _time(run, n_layers))
        for kind, seconds in fastest.items():
            total[kind] = total.get(kind, 0) + seconds
    return total


def _time(run: Callable[[], Any], n_layers: int) -> float:
    run()  # packs weights and fills caches
    started = time.process_time()
    for _ in range(n_layers):
        run()
    return time.process_time() - started


def _make_kinds(shape: Shape, n_tokens: int) -> dict[str, Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    n_inputs, n_outputs = shape
    layer = nn.Linear(n_inputs, n_outputs, bias=False)
    wide = torch.randn(n_tokens, n_inputs, generator=generator)
    half, half_weight = wide.bfloat16(), layer.weight.detach().bfloat16()
    whole = torch.randint(-127, 128, wide.shape, generator=generator, dtype=torch.int8)
    columns = torch.randint(-127, 128, (n_outputs, n_inputs), generator=generator, dtype=torch.int8)
    kinds: dict[str, Callable[[], Tensor]] = {
        "float32": lambda: nn.functional.linear(wide, layer.weight),
        "bfloat16": lambda: nn.functional.linear(half, half_weight),
        "int8, bare": lambda: torch._int_mm(whole, columns.t()),  # noqa: SLF001  (torchao's, too)
    }
    for engine in ENGINES:
        if engine in torch.backends.quantized.supported_engines:
            kinds[f"int8, {engine}"] = _quantised(layer, engine, wide)
    return kinds


def _quantised(layer: nn.Linear, engine: str, inputs: Tensor) -> Callable[[], Tensor]:
    torch.backends.quantized.engine = engine
    kinds = {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of deprecation: torchao, which uses the bare product, follows
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), kinds)

    def run() -> Tensor:
        torch.backends.quantized.engine = engine
        return quantised(inputs)

    return run


def tabulate(record: dict[str, Any]) -> Table:
    """Return a row for each model, batch and kind."""
    rows = []
    for case in record["cases"]:
        half = case["seconds"]["bfloat16"]
        for kind, seconds in case["seconds"].items():
            speed = f"{case['operations'] / seconds / 1e9:,.0f}"
            figures = (number(1000 * seconds), speed, f"{number(half / seconds)}{TIMES}")
            rows.append([case["model"], str(case["n_tokens"]), kind, *figures])
    header = ["model", "tokens at once", "kind", "CPU ms", "GFLOP/s", "speed over bfloat16"]
    gains = {case["model"]: _gain(record, case["model"]) for case in record["cases"]}
    told = " and ".join(f"{number(gain)}{TIMES} on {model}" for model, gain in gains.items())
    is_worth_it = "is" if min(gains.values()) >= _WORTHWHILE else "is **not**"
    note = (
        f"The matrix products of all layers. Each kind at its best number of tokens, the best "
        f"engine for int8 is {told} as fast as bfloat16. The whole job gains less, and would have "
        f"to gain {_WORTHWHILE}{TIMES}: int8 {is_worth_it} worth offering on this processor."
    )
    return Table("int8 on a CPU", header, rows, [note])


def _gain(record: dict[str, Any], model: str) -> float:
    """Return the speed of int8 over that of bfloat16, each at its best number of tokens."""
    cases = [case for case in record["cases"] if case["model"] == model]
    engines = [kind for kind in cases[0]["seconds"] if kind.removeprefix("int8, ") in ENGINES]

    def least(*kinds: str) -> float:
        return min(case["seconds"][kind] / case["n_tokens"] for case in cases for kind in kinds)

    return least("bfloat16") / least(*engines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=["gemma3", "smollm2"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[512, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the table again")
    return parser.parse_args()


if __name__ == "__main__":
    with torch.inference_mode():
        main()
