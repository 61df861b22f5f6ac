"""Average the weights of finished models, as deep as each other or less deep.

    python tools/bundled_model/average.py --model FOLDER 0.5 --model OTHER 0.5 --out OUT

Models that were trained from the same weights lie close enough together that their mean is often
better than each (Wortsman et al. 2022, "Model soups"). What else is in the first folder is copied.
"""

from __future__ import annotations

import argparse
import math
import shutil
from pathlib import Path

import torch
from finished import read_shape, read_state
from model import grow, to_llama
from safetensors.torch import load_file, save_file

FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def average(parts: list[tuple[Path, float]], out: Path) -> None:
    """Write the weighted mean of models as a folder, in float16.

    Parameters
    ----------
    parts : list of (pathlib.Path, float)
        Folders and their weights. The first one is the deepest.
    out : pathlib.Path
        The folder to write to; a model card in it is kept.

    Raises
    ------
    ValueError
        If the weights do not add up to one.
    """
    if not math.isclose(total := sum(weight for _, weight in parts), 1, abs_tol=1e-6):
        raise ValueError(f"The weights add up to {total}. They have to add up to 1.")
    first = parts[0][0]
    shape, deepest = read_shape(first), read_state(first)
    mean = {name: torch.zeros_like(weights) for name, weights in deepest.items()}
    for folder, share in parts:
        # What a block that is missing would compute is that of the first, and adds nothing.
        state = grow(read_state(folder), deepest, read_shape(folder).layers, shape.layers)
        for name, weights in mean.items():
            weights.add_(state[name], alpha=share)
    kept = load_file(first / "model.safetensors").keys()
    found = {k: v.half().contiguous() for k, v in to_llama(mean, shape).items() if k in kept}
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(first / name, out / name)
    save_file(found, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def main() -> None:
    """Average models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", nargs=2, action="append", required=True, metavar=("FOLDER", "WEIGHT")
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    parts = [(Path(folder), float(weight)) for folder, weight in options.model]
    average(parts, options.out)


if __name__ == "__main__":
    main()
