"""Attention to a shared prefix and to the row itself, by the flash kernels of CUDA devices.

Each kernel runs twice: for the tokens of the rows, and for the prefix, which all rows read as one
long row. Outputs are merged by their log normalisers. The backward kernels compute attention
weights again from a log normaliser. Given that of both parts, and the merged output, they return
the gradients of one softmax over both.
Source: the derivation of the backward pass in Dao et al., "FlashAttention" (NeurIPS 2022), where
the output and the normaliser of a row are the only values that its blocks of keys have in common.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from instructclf.engine.scoring.kernels import (
    has_flash_attention,
    join_rows,
    merge_two,
    split_rows,
    with_whole_lines,
)

_WIDEST = 192
"""The widest head whose backward kernel runs on every device that has it."""


def can_train_with_flash(query: Tensor, value: Tensor) -> bool:
    """Say whether a device has the kernels for heads like these, forward and backward."""
    return has_flash_attention(query, value) and query.shape[-1] <= _WIDEST


def flash_joint_attention(
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor], scaling: float
) -> Tensor:
    """Return what `joint_attention` returns for causal attention, on a device with the kernels."""
    width = query.shape[-1]
    heads = (with_whole_lines(each) for each in (query, key, value, *prefix))
    output: Any = _FlashAttention.apply(*heads, scaling)
    return output[..., :width]


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query, key, value, far_key, far_value, scaling = inputs
        # A private operator: the public function keeps the normaliser to itself.
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention  # noqa: SLF001
        one, normaliser, *near = flash(query, key, value, 0.0, True, scale=scaling)  # noqa: FBT003
        joined = join_rows(query)
        far = flash(joined, far_key, far_value, 0.0, False, scale=scaling)  # noqa: FBT003
        other, far_normaliser = split_rows(far[0], len(query)), split_rows(far[1], len(query))
        output = merge_two(one, normaliser, other, far_normaliser)
        normaliser = torch.logaddexp(normaliser, far_normaliser)
        ctx.save_for_backward(query, key, value, far_key, far_value, output, normaliser)
        ctx.near, ctx.far, ctx.scaling = near[:6], far[2:8], scaling
        return output.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *received: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, far_key, far_value, output, normaliser = ctx.saved_tensors
        sent = received[0].transpose(1, 2)
        one, to_key, to_value = _backward(
            (sent, query, key, value, output, normaliser), ctx.near, ctx.scaling, is_causal=True
        )
        joined = (join_rows(each) for each in (sent, query, output, normaliser))
        sent, query, output, normaliser = joined
        other, to_far_key, to_far_value = _backward(
            (sent, query, far_key, far_value, output, normaliser),
            ctx.far,
            ctx.scaling,
            is_causal=False,
        )
        to_query = one + split_rows(other, len(one))
        return to_query, to_key, to_value, to_far_key, to_far_value, None


def _backward(
    tensors: tuple[Tensor, ...], state: tuple[Any, ...], scaling: float, *, is_causal: bool
) -> tuple[Tensor, ...]:
    """Call the backward kernel with what the forward kernel has returned besides its outputs."""
    *lengths, seed, offset = state
    backward: Any = torch.ops.aten._scaled_dot_product_flash_attention_backward  # noqa: SLF001
    return backward(*tensors, *lengths, 0.0, is_causal, seed, offset, scale=scaling)
