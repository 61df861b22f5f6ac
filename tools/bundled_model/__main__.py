"""How the bundled model is made, step by step: ``python -m tools.bundled_model STEP``."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from tools.bundled_model.check import check, write_apart, write_held_out
from tools.bundled_model.finished import average, export
from tools.bundled_model.prepare import prepare
from tools.bundled_model.sources import count_overlaps
from tools.bundled_model.train import Run, add_options


def run_build(options: argparse.Namespace) -> None:
    """Prepare, train and export; what exists already is not done again."""
    if not (options.work / "language.npy").exists():
        run_prepare(options)
    run_train(options)
    options.checkpoint, options.weights = options.work / f"{options.name}.pt", "mean"
    run_export(options)


def run_prepare(options: argparse.Namespace) -> None:
    """Turn raw data into a tokenizer and token ids."""
    prepare(options.data, options.work, options.against)


def run_train(options: argparse.Namespace) -> None:
    """Train, or go on with a run that was stopped."""
    Run(options).go()


def run_export(options: argparse.Namespace) -> None:
    """Turn a checkpoint into a model folder."""
    export(options.checkpoint, options.work / "tokenizer", options.out, options.weights)


def run_average(options: argparse.Namespace) -> None:
    """Average the weights of finished models."""
    parts = [(Path(folder), float(share)) for folder, share in options.model]
    average(parts, options.out)


def run_held_out(options: argparse.Namespace) -> None:
    """Write reviews that are held out of training, to check a model on."""
    write_held_out(options.data, options.out)
    if options.rows:
        write_apart(options.data, options.rows, options.out)


def run_check(options: argparse.Namespace) -> None:
    """Measure a finished model on texts that it was not trained on."""
    check(options.work, options.model, options.rows, options.n_rows, options.n_tasks)


def run_overlap(options: argparse.Namespace) -> None:
    """Count the raw texts that share 13 words in a row with an evaluation text."""
    found = count_overlaps(options.data, options.against)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundled_model", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    def add(run: Callable[[argparse.Namespace], None], *folders: str) -> argparse.ArgumentParser:
        name = run.__name__.removeprefix("run_").replace("_", "-")
        step = steps.add_parser(name, help=run.__doc__, description=run.__doc__)
        step.set_defaults(run=run)
        for folder in folders:
            step.add_argument(f"--{folder}", type=Path, required=True)
        return step

    add_options(step := add(run_build, "data", "work", "out"))
    step.add_argument("--against", type=Path, nargs="*", default=[], help="evaluation files")
    step = add(run_prepare, "data", "work")
    step.add_argument("--against", type=Path, nargs="*", default=[], help="evaluation files")
    add_options(add(run_train, "work"))
    step = add(run_export, "checkpoint", "work", "out")
    step.add_argument("--weights", choices=("mean", "master"), default="mean")
    step = add(run_average, "out")
    pair = ("FOLDER", "SHARE")
    step.add_argument("--model", nargs=2, action="append", required=True, metavar=pair)
    step = add(run_held_out, "data", "out")
    step.add_argument("--rows", type=Path, help="also write the rows of this file that are apart")
    step = add(run_check, "work")
    step.add_argument("--model", required=True)
    step.add_argument("--rows", type=Path, nargs="*", default=[], help="files of reviews")
    step.add_argument("--n-rows", type=int, default=500)
    step.add_argument("--n-tasks", type=int, default=60, help="for each kind of label")
    step = add(run_overlap, "data", "out")
    step.add_argument("--against", type=Path, nargs="+", required=True, help="evaluation files")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
