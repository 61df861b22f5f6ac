"""Raw data to finished model folder, in one command."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from export import export
from prepare import prepare
from train import Run, add_options

LOG = logging.getLogger(__name__)


def main() -> None:
    """Prepare the data, train and export; what is already there is not done again."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="evaluation files")
    add_options(parser)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    if not (options.work / "language.npy").exists():
        prepare(options.data, options.work, options.against)
    run = Run(options)
    run.go()
    export(run.checkpoint, options.work / "tokenizer", options.out)
    LOG.info("finished: %s", options.out)


if __name__ == "__main__":
    main()
