"""Checkpoints → finished models, which ``transformers`` loads; and the mean of several."""

from __future__ import annotations

import json
import logging
import math
import shutil
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from tools.bundled_model.model import EPSILON, HEAD, THETA, Shape, from_llama, grow, to_llama

if TYPE_CHECKING:
    from pathlib import Path

LOG = logging.getLogger(__name__)
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_LOCAL_ENTRIES = ("backend", "is_local", "local_files_only")


def export(checkpoint: Path, tokenizer_folder: Path, out: Path, weights: str = "mean") -> None:
    """Write the model folder, in float16, in one move.

    Parameters
    ----------
    checkpoint : pathlib.Path
        A file that the step ``train`` saved.
    tokenizer_folder : pathlib.Path
        The tokenizer.
    out : pathlib.Path
        The folder, replaced if it exists; its ``README.md`` is kept.
    weights : {"mean", "master"}, default="mean"
        The running average of the weights or the last ones.
    """
    new = out.with_name(out.name + "_new")
    shutil.rmtree(new, ignore_errors=True)
    model = _load_llama(checkpoint, tokenizer_folder, weights).half()
    model.save_pretrained(new)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(new)
    # The weights are stored in float16 but meant to run in float32, and every version of
    # transformers knows this name of the tokenizer's class.
    _edit(new / "config.json", {"dtype": "float32"}, ())
    tokenizer_class = {"tokenizer_class": "PreTrainedTokenizerFast"}
    _edit(new / "tokenizer_config.json", tokenizer_class, _LOCAL_ENTRIES)
    for file in new.iterdir():
        file.chmod(0o644)
    card = out / "README.md"
    if card.exists():
        shutil.copy(card, new / "README.md")
    old = out.with_name(out.name + "_old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    LOG.info("%s: %d parameters, %.1f MB", out, model.num_parameters(), size)


def _load_llama(checkpoint: Path, tokenizer_folder: Path, weights: str) -> LlamaForCausalLM:
    state = torch.load(checkpoint, weights_only=False, map_location="cpu")
    shape = Shape(**state["shape"])
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    n_heads = shape.width // HEAD
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        head_dim=HEAD,
        max_position_embeddings=shape.context,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    missing, unknown = model.load_state_dict(
        to_llama(state["optimiser"][weights], shape), strict=False
    )
    if unknown or set(missing) - {"lm_head.weight"}:
        msg = f"The checkpoint does not fit the model: {missing}, {unknown}."
        raise ValueError(msg)
    model.tie_weights()
    model.generation_config = GenerationConfig.from_model_config(config)
    return model.eval()


def _edit(file: Path, changes: dict[str, str], dropped: tuple[str, ...]) -> None:
    entries = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    kept = {name: value for name, value in entries.items() if name not in dropped}
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def read_shape(folder: Path) -> Shape:
    """Return the shape of a finished model."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Shape(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        hidden=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        context=config["max_position_embeddings"],
    )


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a finished model, in float32."""
    found = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    return from_llama(found, read_shape(folder))


def average(parts: list[tuple[Path, float]], out: Path) -> None:
    """Write the weighted mean of finished models as a folder, in float16.

    Models that were trained from the same weights lie close enough together that their mean is
    often better than each (Wortsman et al. 2022, "Model soups"). The other files are copied from
    the first folder.

    Parameters
    ----------
    parts : list of (pathlib.Path, float)
        Folders and their shares. The first one is the deepest.
    out : pathlib.Path
        The folder to write to; a model card in it is kept.

    Raises
    ------
    ValueError
        If the shares do not add up to one.
    """
    if not math.isclose(total := sum(share for _, share in parts), 1, abs_tol=1e-6):
        raise ValueError(f"The shares add up to {total}. They have to add up to 1.")
    first = parts[0][0]
    shape, deepest = read_shape(first), read_state(first)
    mean = {name: torch.zeros_like(weights) for name, weights in deepest.items()}
    for folder, share in parts:
        # A block that is missing gets the weights of the first model, with zeros as its output.
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
