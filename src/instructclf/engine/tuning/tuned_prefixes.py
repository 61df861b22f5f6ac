"""Prefix tokens → keys and values that rows send gradients to.

All rows of a batch follow the same prefix, so its backward pass has to run only once for the sum of
their losses. For this, the keys and values of the prefix are detached: the backward pass of each
row ends at the detached copies and adds its gradient there. ``backward`` then continues from them
through the prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.loading import install_attention
from instructclf.engine.models.placement import input_device, send_integers
from instructclf.engine.running.padding_masks import hiding_nothing
from instructclf.engine.scoring.kernels import to_additive
from instructclf.engine.scoring.layouts import Layout
from instructclf.engine.scoring.outputs import output_at
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.scoring.shared_attention import AttentionFunction, WindowMasks
from instructclf.engine.scoring.windows import layer_windows
from instructclf.engine.tuning.attention.fused import (
    KernelMasks,
    attend_with_repeated_heads,
    takes_no_groups,
)
from instructclf.engine.tuning.attention.joint import (
    TUNED_PREFIX,
    TunedPrefix,
    joint_attention,
    with_tuned_prefix,
)
from instructclf.exceptions import ScoringError

TUNING_ATTENTION = "instructclf_tuning"
_CHANGE_SCORES = ("softcap", "s_aux")
"""Options of attention functions by which scores are capped or have sinks."""

Pairs = Iterable[tuple[Tensor, Tensor]]
"""The keys and values of each layer."""


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
        If the model keeps anything else than keys and values of past tokens.
    """

    def __init__(self, model: Any, ids: list[int]) -> None:
        super().__init__(model, ids)
        self._computed = self.keys_and_values()
        for layer in self._cache.layers:
            layer.keys, layer.values = _detach(layer.keys), _detach(layer.values)

    def backward(self) -> None:
        """Continue the backward pass of all rows so far through the prefix."""
        _continue_backward(self._computed, self.keys_and_values())


class DifferentiablePrefixAttention:
    """A prefix with gradients that all rows read and none copies.

    It holds keys and values only of layers that run, so frozen layers that are replayed have none.

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
        self._windows = layer_windows(model.config.get_text_config())
        install_attention(model, TUNING_ATTENTION, with_tuned_prefix)
        recording = _Recording()
        device = input_device(model)
        (inputs,) = send_integers(device, [ids])
        # The logits are not read, so the output layer computes those of the last token only.
        last = send_integers(device, [[0]], [[len(ids) - 1]])
        with output_at(model, *last), hiding_nothing():
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
        self._detached = {
            layer: (_detach(keys), _detach(values))
            for layer, (keys, values) in self._computed.items()
        }

    def inputs(self, layout: Layout) -> dict[str, Any]:
        """Return the prefix in the form that the attention function expects."""
        masks = WindowMasks(
            self._windows,
            layout.position_ids,
            n_prefix=self.length,
            has_mask=layout.mask is not None,
        )
        return {TUNED_PREFIX: _Following(self._detached, masks), "use_cache": False}

    def branch(self, model: Any, n_tokens: int, ids: list[int]) -> None:  # noqa: ARG002
        """Return ``None``: all rows begin with the whole prefix."""
        return

    def backward(self) -> None:
        """Continue the backward pass of all rows so far through the prefix."""
        _continue_backward(self._computed.values(), self._detached.values())


class _Recording(TunedPrefix):
    """Lets the prefix attend to itself, and keeps the keys and values of each layer."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.is_open = True

    def attend(
        self, attention: AttentionFunction, module: Any, *inputs: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        # With gradient checkpointing, layers run again in the backward pass. Their new keys and
        # values must not replace those that the graph of the first run leads to.
        query, keys, values, mask = inputs
        if self.is_open:
            self.layers[module.layer_idx] = keys, values
        is_plain = mask is None and all(options.get(name) is None for name in _CHANGE_SCORES)
        drops = bool(options.get("dropout"))
        if is_plain and not drops and takes_no_groups(query, keys, values):
            output = attend_with_repeated_heads(query, keys, values, options.get("scaling"))
            return output, None
        return attention(module, *inputs, **options)


class _Following(TunedPrefix):
    """Lets rows attend to what they see of the prefix in each layer, in addition to their own."""

    def __init__(self, layers: dict[int, tuple[Tensor, Tensor]], masks: WindowMasks) -> None:
        self._layers = layers
        self._masks = masks
        self._kernel_masks = KernelMasks()

    def attend(
        self, attention: AttentionFunction, module: Any, *inputs: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        query, key, value, mask = inputs
        layer = module.layer_idx
        if any(options.get(name) is not None for name in _CHANGE_SCORES):
            msg = "Attention with capped scores or with sinks is not tuned after a shared prefix."
            raise ScoringError(msg)
        if layer not in self._layers:
            msg = "A layer has no keys and values of the prefix."
            raise ScoringError(msg)
        mask = self._masks.of_rows(layer, query, mask)
        seen, hidden = self._masks.of_prefix(layer, query)
        if seen.start >= seen.stop:  # the rows are beyond the window or chunk of the prefix
            # Without a mask, the eager function of transformers would hide nothing.
            return attention(module, query, key, value, to_additive(mask, query), **options)
        far_key, far_value = (heads[:, :, seen] for heads in self._layers[layer])
        output = joint_attention(
            query,
            key,
            value,
            (far_key, far_value),
            mask=mask,
            prefix_mask=hidden,
            scaling=options.get("scaling") or query.shape[-1] ** -0.5,
            masks=self._kernel_masks,
        )
        return output, None


def _detach(tensor: Tensor) -> Tensor:
    """Return the tensor as the start of a new graph, which collects a gradient if it had one."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _continue_backward(computed: Pairs, detached: Pairs) -> None:
    """Continue a backward pass that ended at detached tensors, in the graph they came from."""
    sent = [
        (tensor, copy.grad)
        for tensors, copies in zip(computed, detached, strict=True)
        for tensor, copy in zip(tensors, copies, strict=True)
        if copy.grad is not None  # as it is for tensors that depend on no tuned weight
    ]
    if sent:
        tensors, gradients = zip(*sent, strict=True)
        torch.autograd.backward(tensors, gradients)
