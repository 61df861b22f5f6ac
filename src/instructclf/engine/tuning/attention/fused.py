"""Attention to a shared prefix and to the row itself, by the fused kernels of CUDA devices.

A kernel runs for the tokens of the rows, and one for the prefix, which all rows read as one long
row. Outputs are merged by their log normalisers. The backward kernels compute attention weights
again from a log normaliser. Given that of both parts, and the merged output, they return the
gradients of one softmax over both.
Source: the derivation of the backward pass in Dao et al., "FlashAttention" (NeurIPS 2022), where
the output and the normaliser of a row are the only values that its blocks of keys have in common.

FlashAttention takes half precision and no mask. The memory-efficient kernel takes all else, but
wants a head of keys for each head of queries. So the queries that share a head of keys are stored
as one head of longer rows, and no key is repeated.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from instructclf.engine.running.cpu_attention import repeat_heads
from instructclf.engine.scoring.kernels import (
    has_efficient_attention,
    has_flash_attention,
    join_rows,
    merge_two,
    split_rows,
    to_additive,
    with_aligned_lines,
    with_whole_lines,
)

_WIDEST_FLASH = 192
"""The widest head whose backward kernel of FlashAttention runs on every device that has it."""


def can_train_with_kernels(query: Tensor, value: Tensor) -> bool:
    """Say whether a device has kernels for heads like these, forward and backward."""
    return _can_train_with_flash(query, value) or has_efficient_attention(query, value)


def _can_train_with_flash(query: Tensor, value: Tensor) -> bool:
    return has_flash_attention(query, value) and query.shape[-1] <= _WIDEST_FLASH


class KernelMasks:
    """Masks as the memory-efficient kernel takes them, made once for all layers of a forward pass.

    Layers mostly get the same mask. To store it for the kernel takes several operations.
    """

    def __init__(self) -> None:
        self._made: dict[Any, tuple[Tensor | None, Tensor]] = {}

    def of(self, mask: Tensor | None, query: Tensor, n_sharing: int) -> Tensor:
        """Return a mask with a line for each query, of shape (n_rows or 1, 1, n_queries, n_keys).

        The query has shape (n_rows, n_heads, length, width). Of its heads, ``n_sharing`` share a
        head of keys.
        """
        kind = id(mask), query.shape, query.device
        if kind not in self._made:
            lines = to_additive(mask, query).repeat_interleave(n_sharing, dim=2)
            made = with_aligned_lines(lines)
            self._made[kind] = mask, made  # the mask stays, so that no other one gets its address
        return self._made[kind][1]


def fused_joint_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None,
    prefix_mask: Tensor | None,
    scaling: float,
    masks: KernelMasks,
) -> Tensor:
    """Return what `joint_attention` returns, on a device with the kernels."""
    width, n_sharing = query.shape[-1], query.shape[1] // key.shape[1]
    takes_flash = prefix_mask is None and _can_train_with_flash(query, value)
    if takes_flash and mask is None:
        n_sharing = 1  # it takes heads that share keys as they are
        near: _Kernel = _Flash(scaling, is_causal=True)
    elif mask is None and n_sharing == 1:
        near = _Efficient(scaling, is_causal=True)
    else:
        near = _Efficient(scaling, masks.of(mask, query, n_sharing))
    if takes_flash:
        far: _Kernel = _Flash(scaling)
    elif prefix_mask is None:
        far = _Efficient(scaling)
    else:
        far = _Efficient(scaling, masks.of(prefix_mask, query, n_sharing))
    folded = _fold(query, n_sharing)
    heads = (with_whole_lines(each) for each in (folded, key, value, *prefix))
    output: Any = _FusedAttention.apply(*heads, near, far)
    return _unfold(output, n_sharing)[..., :width]


def takes_no_groups(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Say whether the kernel for these heads takes no heads of queries that share a head of keys.

    torch composes attention of a dozen operators then, and keeps the weights.
    """
    is_grouped = query.shape[1] != key.shape[1]
    has_kernel = has_efficient_attention(query, value) and not has_flash_attention(query, value)
    return is_grouped and has_kernel


def attend_with_repeated_heads(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None
) -> Tensor:
    """Return causal attention of rows to themselves, of shape (n_rows, length, n_heads, width)."""
    repeated = repeat_heads(key, value, query)
    output = scaled_dot_product_attention(query, *repeated, is_causal=True, scale=scaling)
    return output.transpose(1, 2)


class _Kernel(Protocol):
    """A forward kernel and its backward kernel, for one call of each."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and the log normaliser in the memory that ``backward`` reads."""
        ...

    def backward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of query, key and value.

        Takes that of the output, query, key, value, the output and the log normaliser.
        """
        ...


# The operators are private: the public function keeps the normaliser to itself.


class _Flash(_Kernel):
    def __init__(self, scaling: float, *, is_causal: bool = False) -> None:
        self._scaling, self._is_causal = scaling, is_causal
        self._state: list[Any] = []

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention  # noqa: SLF001
        output, normaliser, *state = flash(
            query, key, value, 0.0, self._is_causal, scale=self._scaling
        )
        self._state = state[:6]
        return output, normaliser

    def backward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        *lengths, seed, offset = self._state
        backward: Any = torch.ops.aten._scaled_dot_product_flash_attention_backward  # noqa: SLF001
        return backward(*tensors, *lengths, 0.0, self._is_causal, seed, offset, scale=self._scaling)


class _Efficient(_Kernel):
    def __init__(
        self, scaling: float, mask: Tensor | None = None, *, is_causal: bool = False
    ) -> None:
        self._scaling, self._mask, self._is_causal = scaling, mask, is_causal
        self._bias: Tensor | None = None
        self._state: list[Any] = []

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        efficient: Any = torch.ops.aten._scaled_dot_product_efficient_attention  # noqa: SLF001
        if self._mask is not None:
            self._bias = self._mask.expand(*query.shape[:2], -1, -1)
        output, normaliser, *self._state = efficient(
            query,
            key,
            value,
            self._bias,
            compute_log_sumexp=True,
            is_causal=self._is_causal,
            scale=self._scaling,
        )
        return output, normaliser

    def backward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        backward: Any = torch.ops.aten._scaled_dot_product_efficient_attention_backward  # noqa: SLF001
        sent, query, key, value, output, normaliser = tensors
        to_query, to_key, to_value, _ = backward(
            sent, query, key, value, self._bias, output, normaliser, *self._state,
            0.0, [True, True, True, False], self._is_causal, scale=self._scaling,
        )  # fmt: skip
        return to_query, to_key, to_value


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query, key, value, far_key, far_value, near, far = inputs
        n_rows, _, length, _ = query.shape
        one, normaliser = near.forward(query, key, value)
        other, far_normaliser = far.forward(join_rows(query), far_key, far_value)
        # Kernels may return normalisers for more queries than there are, and read them so.
        whole = normaliser[..., :length]
        far_whole = split_rows(far_normaliser[..., : n_rows * length], n_rows)
        output = merge_two(one, whole, split_rows(other, n_rows), far_whole)
        torch.logaddexp(whole, far_whole, out=whole)
        far_whole.copy_(whole)
        ctx.save_for_backward(
            query, key, value, far_key, far_value, output, normaliser, far_normaliser
        )
        ctx.near, ctx.far = near, far
        return output.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *received: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, far_key, far_value, output, *normalisers = ctx.saved_tensors
        sent = received[0].contiguous().transpose(1, 2)
        one, to_key, to_value = ctx.near.backward(sent, query, key, value, output, normalisers[0])
        sent, query, output = map(join_rows, (sent, query, output))
        other, to_far_key, to_far_value = ctx.far.backward(
            sent, query, far_key, far_value, output, normalisers[1]
        )
        to_query = one + split_rows(other, len(one))
        return to_query, to_key, to_value, to_far_key, to_far_value, None, None


def _fold(query: Tensor, n_sharing: int) -> Tensor:
    """Join the queries that share a head of keys: those of one position follow each other.

    The shape becomes (n_rows, n_key_heads, length * n_sharing, width), and the heads of a position
    are stored side by side, as models and kernels store them.
    """
    if n_sharing == 1:
        return query
    by_head = query.transpose(1, 2).unflatten(2, (-1, n_sharing))
    return by_head.transpose(2, 3).flatten(1, 2).transpose(1, 2)


def _unfold(output: Tensor, n_sharing: int) -> Tensor:
    """Undo `_fold` in an output of shape (n_rows, length * n_sharing, n_key_heads, width)."""
    if n_sharing == 1:
        return output
    return output.unflatten(1, (-1, n_sharing)).transpose(2, 3).flatten(2, 3)
