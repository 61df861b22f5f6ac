"""A new adapter on a view → an error, if the adapter could not be tuned or scored correctly."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.models.merging import run_probe, task_type_of
from instructclf.engine.scoring.budgets import is_fatal

_N_PROBED = 8
"""Tokens of a probe."""
_PROBE_NOISE = 0.1
"""Standard deviation of the noise on an adapter's weights, so that the adapter has an effect."""
_PROBE_TOLERANCE = 0.01
"""Relative to the largest logit. Rounding in half precision stays below it."""
_SAID_BY_THE_TYPE = ("peft_type", "peft_version", "task_type")


def check_task_type(config: Any, view: Any) -> None:
    """Raise if a configuration says that it is for another kind of model."""
    given, wanted = config.task_type, task_type_of(view)
    if given not in (None, wanted):
        msg = (
            f"This adapter is for another kind of model: {describe(config)} has task_type="
            f"{getattr(given, 'value', given)!r}, and {type(view).__name__} takes {wanted!r}. Set "
            "that, or leave it out."
        )
        raise ValueError(msg)


def check_trained_in_full_precision(parameters: list[nn.Parameter], config: Any) -> None:
    """Raise if weights are trained in half precision, which would round small steps away."""
    half = {p.dtype for p in parameters} & {torch.float16, torch.bfloat16}
    if half:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in half))
        msg = (
            f"This adapter trains weights of the base model itself, in {names}, which is too "
            f"coarse for small steps: {describe(config)}. Use "
            "model_options=ModelOptions(dtype='float32'), or leave out settings such as bias or "
            "modules_to_save, which train these weights."
        )
        raise ValueError(msg)


@torch.no_grad()
def check_works_in_layers(
    wrapped: Any, view: Any, parameters: list[nn.Parameter], config: Any
) -> None:
    """Raise unless the view alone computes the logits of PEFT's wrapper around it, causally.

    Scoring runs the view and never calls the wrapper, in which some kinds of adapters do part of
    their work. Many new adapters change nothing, which would hide a difference, so their weights
    get noise during the check.
    """
    device = view.get_input_embeddings().weight.device
    ids = torch.arange(_N_PROBED, device=device).unsqueeze(0)
    before = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(0)
    try:
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.add_((_PROBE_NOISE * noise).to(parameter))
        expected, found = run_probe(wrapped, ids), run_probe(view, ids)
        of_shorter = run_probe(view, ids, _N_PROBED - 1)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        if is_fatal(error):
            raise
        msg = f"Labels cannot be scored with this adapter: {describe(config)}. PEFT says: {error}"
        raise ValueError(msg) from error
    finally:
        for parameter, initial in zip(parameters, before, strict=True):
            parameter.copy_(initial)
    if not _are_close(expected, found):
        msg = (
            "This adapter does part of its work outside the model's layers, where labels are not "
            f"scored: {describe(config)}. Choose another kind of adapter."
        )
        raise ValueError(msg)
    if not _are_close(found[:, :-1], of_shorter):
        msg = (
            "With this adapter, the output at a token depends on the tokens after it, so labels "
            f"cannot be scored: {describe(config)}. Choose another kind of adapter."
        )
        raise ValueError(msg)


def _are_close(one: Tensor, other: Tensor) -> bool:
    """Say whether logits are equal up to rounding, in any precision."""
    difference = (one - other).abs().max() if one.shape == other.shape else math.inf
    return not difference > _PROBE_TOLERANCE * one.abs().max().clamp_min(1.0)


def describe(config: Any) -> str:
    """Write a configuration as code, without the fields that have their default value."""
    given = [
        f"{entry.name}={getattr(config, entry.name)!r}"
        for entry in fields(config)
        if entry.name not in _SAID_BY_THE_TYPE and getattr(config, entry.name) != _default(entry)
    ]
    return f"{type(config).__name__}({', '.join(given)})"


def _default(entry: Any) -> Any:
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def check_same_shapes(given: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise unless weights have the names and shapes that an adapter expects."""
    shapes, expected_shapes = (
        {name: tuple(weight.shape) for name, weight in weights.items()}
        for weights in (given, expected)
    )
    differing = sorted(
        name
        for name in shapes.keys() | expected_shapes.keys()
        if shapes.get(name) != expected_shapes.get(name)
    )
    if differing:
        name = differing[0]
        msg = (
            f"The weights of the earlier adapter do not fit: {name} has the shape "
            f"{shapes.get(name)} there and {expected_shapes.get(name)} here, because the rank, the "
            "layers or the model have changed. Set them back, or start from a new adapter with "
            "training_options=TrainingOptions(warm_start=False)."
        )
        raise ValueError(msg)
