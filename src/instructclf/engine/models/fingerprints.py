"""Base model → fingerprint: tells it from other models, whatever their names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch

from instructclf.engine.models.loading import BaseModel
from instructclf.engine.models.placement import named_weights
from instructclf.engine.running.locks import tokenizer_state

_N_SAMPLES = 16
_N_KEPT = 256
_PROBES = ("", " a", "\n\n### Response:\n", "Naïve, 12.5 % 日本語 🙂", "\tx\r\n  y")


def take_fingerprint(base: BaseModel) -> dict[str, Any]:
    """Describe a base model by its weights, its tokenizer and its shape.

    It reads a few elements of every tensor, which takes milliseconds. That is enough: two models of
    one family, such as a base model and its chat model, differ in nearly all elements.
    ``"tokenizer"``, ``"shapes"`` and ``"weights"`` are checksums; ``"dtype"`` lists the types that
    weights are stored in; ``"samples"`` are a few elements of the embeddings, which are never
    quantised.
    """
    weights = dict(sorted(named_weights(base.model)))
    samples = {name: _sample(weight) for name, weight in weights.items()}
    sampled = np.concatenate(list(samples.values()))
    shapes = [[name, list(weight.shape)] for name, weight in weights.items()]
    return {
        "tokenizer": _checksum(json.dumps(_describe_tokenizer(base.tokenizer)).encode()),
        "shapes": _checksum(json.dumps(shapes).encode()),
        "weights": _checksum(sampled.astype("<f4").tobytes()),
        "dtype": sorted({str(weight.dtype) for weight in weights.values()}),
        "samples": _sample(weights[_embedding_name(base.model)], _N_KEPT).tolist(),
    }


def find_difference(known: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Name the part in which two results of `take_fingerprint` differ; ``None`` for equal models.

    The part is ``"tokenizer"``, ``"shape"`` or ``"weights"``. Weights stored in another precision,
    or in 4 bits, are compared as closely as that allows.
    """
    if known["tokenizer"] != found["tokenizer"]:
        return "tokenizer"
    if known["dtype"] == found["dtype"]:
        if known["shapes"] != found["shapes"]:
            return "shape"
        return None if known["weights"] == found["weights"] else "weights"
    if len(known["samples"]) != len(found["samples"]):
        return "shape"
    same = np.allclose(known["samples"], found["samples"], rtol=2**-7, atol=1e-6)
    return None if same else "weights"


def _embedding_name(model: Any) -> str:
    embeddings = model.get_input_embeddings().weight
    return next(name for name, weight in model.named_parameters() if weight is embeddings)


def _sample(weight: torch.Tensor, n_samples: int = _N_SAMPLES) -> np.ndarray[Any, Any]:
    flat = weight.detach().reshape(-1)
    # Float64 counts the elements of any tensor exactly; float32 only up to 2**24.
    positions = torch.linspace(0, flat.numel() - 1, n_samples, dtype=torch.float64).long()
    return flat[positions.to(flat.device)].float().cpu().numpy()


def _describe_tokenizer(tokenizer: Any) -> Any:
    with tokenizer_state:
        probes = [tokenizer(probe)["input_ids"] for probe in _PROBES]
    return [sorted(tokenizer.get_vocab().items()), tokenizer.all_special_tokens, probes]


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
