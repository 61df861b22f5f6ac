"""Adapter on a view → an error, where it could not be tuned and scored as it is meant."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import Any

import torch
from torch import Tensor, nn

_N_PROBED = 8
"""Tokens of a probe."""
_PROBE_NOISE = 0.1
"""Standard deviation of what is added to an adapter's weights, so that it shows what it does."""
_PROBE_TOLERANCE = 0.01
"""Relative to the largest logit: above the rounding of half precision."""
_SAID_BY_THE_TYPE = ("peft_type", "peft_version", "task_type")


def check_trained_in_full_precision(parameters: list[nn.Parameter], config: Any) -> None:
    """Raise if steps as small as those of training would be rounded away."""
    half = {p.dtype for p in parameters} & {torch.float16, torch.bfloat16}
    if half:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in half))
        msg = (
            f"This peft_config trains weights of the base model itself, in {names}, which is too "
            f"coarse for small steps: {describe(config)}. Use dtype='float32', or leave out what "
            "trains them, such as bias or modules_to_save."
        )
        raise ValueError(msg)


@torch.no_grad()
def check_works_in_layers(
    wrapped: Any, view: Any, parameters: list[nn.Parameter], config: Any
) -> None:
    """Raise unless the view alone returns what PEFT's wrapper around it does.

    The wrapper is where some kinds do a part of their work, and scoring never calls it. A new
    adapter often changes nothing, so this one is disturbed meanwhile.
    """
    device = view.get_input_embeddings().weight.device
    ids = torch.arange(_N_PROBED, device=device).unsqueeze(0)
    before = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(0)
    try:
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.add_((_PROBE_NOISE * noise).to(parameter))
        expected, found = _logits(wrapped, ids), _logits(view, ids)
        shorter = _logits(view, ids[:, :-1])
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        msg = f"This peft_config cannot be scored with: {describe(config)}. PEFT says: {error}"
        raise ValueError(msg) from error
    finally:
        for parameter, own in zip(parameters, before, strict=True):
            parameter.copy_(own)
    if not _are_close(expected, found):
        msg = (
            "A part of what this peft_config asks for happens outside of the model's layers, where "
            f"labels are not scored: {describe(config)}. Choose another kind."
        )
        raise ValueError(msg)
    if not _are_close(found[:, :-1], shorter):
        msg = (
            "With this peft_config, what the model makes of a token depends on the tokens after "
            f"it, so labels cannot be scored: {describe(config)}. Choose another kind."
        )
        raise ValueError(msg)


def _logits(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits


def _are_close(one: Tensor, other: Tensor) -> bool:
    """Say whether logits are equal but for rounding, in any precision."""
    difference = (one - other).abs().max() if one.shape == other.shape else math.inf
    return not difference > _PROBE_TOLERANCE * one.abs().max().clamp_min(1.0)


def describe(config: Any) -> str:
    """Return a configuration as one would write it: without what is left at its default."""
    given = [
        f"{entry.name}={getattr(config, entry.name)!r}"
        for entry in fields(config)
        if entry.name not in _SAID_BY_THE_TYPE and getattr(config, entry.name) != _default(entry)
    ]
    return f"{type(config).__name__}({', '.join(given)})"


def _default(entry: Any) -> Any:
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def check_same_shapes(state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Raise unless the weights given are those of an adapter that looks like one's own."""
    given = {name: tuple(weight.shape) for name, weight in state.items()}
    expected = {name: tuple(weight.shape) for name, weight in own.items()}
    differing = sorted(
        name for name in given.keys() | expected.keys() if given.get(name) != expected.get(name)
    )
    if differing:
        name = differing[0]
        msg = (
            f"The weights of the earlier adapter do not fit: {name} has the shape "
            f"{given.get(name)} there and {expected.get(name)} here. The rank, the layers or the "
            "model were others. Set them back, or begin anew with warm_start=False."
        )
        raise ValueError(msg)
