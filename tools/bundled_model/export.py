"""Turn a checkpoint into a model folder that plain ``transformers`` loads."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path

import torch
from model import EPSILON, HEAD, THETA, Shape, to_llama
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

LOG = logging.getLogger(__name__)
NOISE = ("backend", "is_local", "local_files_only")


def load_llama(checkpoint: Path, tokenizer_folder: Path, weights: str = "mean") -> LlamaForCausalLM:
    """Load a checkpoint as a Llama.

    Parameters
    ----------
    checkpoint : pathlib.Path
        What ``train.py`` saved.
    tokenizer_folder : pathlib.Path
        The tokenizer.
    weights : {"mean", "master"}, default="mean"
        The running average of the weights or the last ones.

    Returns
    -------
    transformers.LlamaForCausalLM
        The model, in float32.
    """
    state = torch.load(checkpoint, weights_only=False, map_location="cpu")
    shape = Shape(**state["shape"])
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    heads = shape.width // HEAD
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
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
    found = to_llama(state["optimiser"][weights], shape)
    missing, unknown = model.load_state_dict(found, strict=False)
    if unknown or set(missing) - {"lm_head.weight"}:
        msg = f"The checkpoint does not fit the model: {missing}, {unknown}."
        raise ValueError(msg)
    model.tie_weights()
    model.generation_config = GenerationConfig.from_model_config(config)
    return model.eval()


def _edit(file: Path, changes: dict[str, str], noise: tuple[str, ...]) -> None:
    """Change and drop entries of a JSON file.

    The weights are stored in float16 but meant to run in float32, and the tokenizer goes by the
    name that every version of ``transformers`` knows.
    """
    entries = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    kept = {name: value for name, value in entries.items() if name not in noise}
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def export(checkpoint: Path, tokenizer_folder: Path, out: Path, weights: str = "mean") -> None:
    """Write the model folder, in float16, in one move.

    Parameters
    ----------
    checkpoint : pathlib.Path
        What ``train.py`` saved.
    tokenizer_folder : pathlib.Path
        The tokenizer.
    out : pathlib.Path
        The folder, replaced if there; its ``README.md`` is kept.
    weights : {"mean", "master"}, default="mean"
        The running average of the weights or the last ones.
    """
    fresh = out.with_name(out.name + "_new")
    shutil.rmtree(fresh, ignore_errors=True)
    model = load_llama(checkpoint, tokenizer_folder, weights).half()
    model.save_pretrained(fresh)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(fresh)
    _edit(fresh / "config.json", {"dtype": "float32"}, ())
    _edit(fresh / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}, NOISE)
    for file in fresh.iterdir():
        file.chmod(0o644)
    card = out / "README.md"
    if card.exists():
        shutil.copy(card, fresh / "README.md")
    old = out.with_name(out.name + "_old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    LOG.info("%s: %d parameters, %.1f MB", out, model.num_parameters(), size)


def main() -> None:
    """Export a checkpoint."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", choices=("mean", "master"), default="mean")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    export(options.checkpoint, options.tokenizer, options.out, options.weights)


if __name__ == "__main__":
    main()
