"""Measure instructclf against its peers, and write the results.

    python benchmarks/run.py                       everything
    python benchmarks/run.py prediction --model smollm2
    python benchmarks/run.py --toy                 seconds, to see that it works
    python benchmarks/run.py --tables              tables from the existing JSON

Each benchmark writes ``results/<name>.json`` with every single measurement, and
``results/<name>.md`` with tables made from that JSON.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import time
from pathlib import Path

from measuring import RESULTS, Settings, environment, set_threads
from models import BUNDLED, MODELS
from tables import load_record, page, pending, save_page, save_record

BENCHMARKS = {
    "prediction": "prediction",
    "tuning": "tuning",
    "grid-search": "grid_search",
    "cost": "cost",
    "overheads": "overheads",
    "scaling": "scaling",
}
"""Name on the command line → module with ``measure(settings)`` and ``tabulate(record)``."""


def main() -> None:
    arguments = _parse()
    logging.basicConfig(level=logging.WARNING)
    settings = Settings(
        models=_chosen_models(arguments),
        rounds=arguments.rounds or (1 if arguments.toy else 3),
        toy=arguments.toy,
        threads=arguments.threads,
        out=arguments.out,
    )
    set_threads(settings.threads)
    for name in arguments.benchmarks or BENCHMARKS:
        run(name, settings, only_tables=arguments.tables)


def run(name: str, settings: Settings, *, only_tables: bool) -> None:
    """Measure one benchmark, write its JSON, and make its page from that."""
    module = importlib.import_module(BENCHMARKS[name])
    if not only_tables:
        start = time.perf_counter()
        record = {"environment": environment(settings), **module.measure(settings)}
        record["seconds"] = time.perf_counter() - start
        save_record(record, name, settings.out)
    if not (settings.out / f"{name}.json").exists():
        save_page(pending(f"python benchmarks/run.py {name}"), name, settings.out)
        return
    record = load_record(name, settings.out)
    text = page(record, module.tabulate(record))
    print(text, flush=True)
    save_page(text, name, settings.out)


def _chosen_models(arguments: argparse.Namespace) -> tuple[str, ...]:
    if arguments.model != "both":
        return (arguments.model,)
    return (BUNDLED,) if arguments.toy else MODELS  # at toy size they are the same model


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--model", choices=[*MODELS, "both"], default="both")
    parser.add_argument("--rounds", type=int, help="default 3; with --toy 1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--toy", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument("--tables", action="store_true", help="only make tables again")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.benchmarks if name not in BENCHMARKS]
    if unknown:
        parser.error(
            f"no such benchmark: {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}"
        )
    return arguments


if __name__ == "__main__":
    main()
