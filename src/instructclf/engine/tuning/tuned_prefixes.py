"""Prefix tokens → keys and values that rows send gradients to.

Every row follows on the same keys and values, so the gradient of a sum of losses goes through the
prefix once: rows leave theirs at its keys and values, and ``backward`` goes on from there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.loading import install_attention
from instructclf.engine.models.placement import input_device
from instructclf.engine.scoring.outputs import output_at
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.tuning.joint_attention import (
    TUNED_PREFIX,
    AttentionFunction,
    TunedPrefix,
    joint_attention,
    with_tuned_prefix,
)
from instructclf.exceptions import ScoringError

TUNING_ATTENTION = "instructclf_tuning"


class DifferentiablePrefix(PrefixCache):
    """A prefix with gradients in the model's own cache. Rows append to copies of it.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model with weights to train.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model keeps something else than keys and values of past tokens.
    """

    def __init__(self, model: Any, ids: list[int]) -> None:
        super().__init__(model, ids)
        self._computed = [tensor for pair in self.keys_and_values() for tensor in pair]
        for layer in self._cache.layers:
            layer.keys, layer.values = _leaf(layer.keys), _leaf(layer.values)

    def backward(self) -> None:
        """Pass on the gradients that rows have sent so far."""
        leaves = [tensor for pair in self.keys_and_values() for tensor in pair]
        _pass_on(self._computed, leaves)


class DifferentiablePrefixAttention:
    """A prefix with gradients that all rows read and none copies.

    Only the layers that run have keys and values of it, which leaves out those whose outputs are
    known.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model with weights to train, whose attention function this
        extends.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model's attention cannot be extended.
    """

    is_in_mask = False
    limits_last_layer = False

    def __init__(self, model: Any, ids: list[int]) -> None:
        self.length = len(ids)
        install_attention(model, TUNING_ATTENTION, with_tuned_prefix)
        recording = _Recording()
        device = input_device(model)
        inputs = torch.tensor([ids], device=device)
        with output_at(model, *torch.tensor([[[0]], [[len(ids) - 1]]], device=device)):
            model(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                use_cache=False,
                **{TUNED_PREFIX: recording},
            )
        recording.is_open = False
        if not recording.layers:
            msg = f"{type(model).__name__} does not let its layers see a prefix."
            raise ScoringError(msg)
        self._computed = recording.layers
        self._leaves = {
            layer: (_leaf(keys), _leaf(values)) for layer, (keys, values) in self._computed.items()
        }

    def inputs(self, n_rows: int) -> dict[str, Any]:  # noqa: ARG002  (rows share it as it is)
        """Return the prefix as the attention function takes it."""
        return {TUNED_PREFIX: _Following(self._leaves), "use_cache": False}

    def first(self, n_tokens: int) -> None:  # noqa: ARG002  (all rows of a batch begin with all of it)
        """Return ``None``: it is not parted."""
        return

    def backward(self) -> None:
        """Pass on the gradients that rows have sent so far."""
        _pass_on(
            [tensor for pair in self._computed.values() for tensor in pair],
            [tensor for pair in self._leaves.values() for tensor in pair],
        )


class _Recording(TunedPrefix):
    """Keeps the keys and values of each layer, while it is open."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.is_open = True

    def attend(
        self, plain: AttentionFunction, module: Any, *inputs: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        # A checkpoint runs a layer again after the recording has ended.
        if self.is_open:
            _, keys, values, *_ = inputs
            self.layers[module.layer_idx] = keys, values
        return plain(module, *inputs, **options)


class _Following(TunedPrefix):
    """Lets rows attend to the keys and values of each layer."""

    def __init__(self, layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    def attend(
        self, plain: AttentionFunction, module: Any, *inputs: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        del plain
        query, key, value, mask = inputs
        if module.layer_idx not in self._layers:
            msg = "A layer has not seen the prefix that others share."
            raise ScoringError(msg)
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        own = self._layers[module.layer_idx]
        output = joint_attention(query, key, value, own, mask=mask, scaling=scaling)
        return output, None


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _pass_on(computed: list[Tensor], leaves: list[Tensor]) -> None:
    """Go on with the gradients found at leaves, from what they were detached from."""
    sent = [(tensor, leaf.grad) for tensor, leaf in zip(computed, leaves, strict=True)]
    arrived = [(tensor, gradient) for tensor, gradient in sent if gradient is not None]
    if arrived:
        tensors, gradients = zip(*arrived, strict=True)
        torch.autograd.backward(tensors, gradients)
