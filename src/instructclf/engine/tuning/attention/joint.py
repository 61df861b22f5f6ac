"""Attention of rows to themselves and to one shared prefix, with gradients for both.

One softmax runs over the scores of the prefix, which no row copies, and of the row itself. The
backward pass computes attention weights again, which would otherwise take most of the memory of
long prompts: only queries, keys and values are kept. CUDA devices have kernels for that: see
`fused`. Elsewhere all work is done by matrix products, which run on every device. On a CPU in
bfloat16, the backward pass takes a third of the time that torch's fused attention takes. In float32
the fused one is faster for long rows, so there each row gets a copy of the prefix.

Two names recur: *far* is the prefix, and *near* is the row itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from instructclf.engine.scoring.kernels import to_additive
from instructclf.engine.scoring.shared_attention import AttentionFunction
from instructclf.engine.tuning.attention.fused import (
    KernelMasks,
    can_train_with_kernels,
    fused_joint_attention,
)

TUNED_PREFIX = "tuned_prefix"
"""The keyword through which a forward pass hands the prefix to every layer."""

_MOST_BYTES = 2**26
"""Of attention weights at once. If all key heads need more, they are computed in turn."""
_MOST_BYTES_ON_CPU = 2**23
"""About the size of its cache."""
_LEAST_COPIED = 128
"""Rows of at least so many tokens get copies of the prefix, on a CPU in float32."""


class TunedPrefix(Protocol):
    """Decides what a layer does with its queries, keys and values."""

    def attend(
        self, attention: AttentionFunction, module: nn.Module, *inputs: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Take the place of the attention function in one layer."""
        ...


def with_tuned_prefix(attention: AttentionFunction) -> AttentionFunction:
    """Extend an attention function by a prefix that rows share and send gradients to.

    The result takes one more parameter, a ``TunedPrefix``. Without it, it calls ``attention``.
    """

    def attend(module: nn.Module, *inputs: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        prefix: TunedPrefix | None = options.pop(TUNED_PREFIX, None)
        if prefix is None:
            return attention(module, *inputs, **options)
        return prefix.attend(attention, module, *inputs, **options)

    return attend


def joint_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None,
    scaling: float,
    prefix_mask: Tensor | None = None,
    masks: KernelMasks | None = None,
) -> Tensor:
    """Let each row attend to the prefix and to itself.

    The query has shape (n_rows, n_heads, length, width); key and value have (n_rows, n_key_heads,
    length, width), and each key head serves ``n_heads / n_key_heads`` query heads. Keys and values
    of the prefix have shape (1, n_key_heads, n_prefix, width). The mask, of shape (n_rows or 1, 1,
    length, length), is added to the scores of each row with itself, or is boolean and true for
    tokens that are visible; ``None`` is causal. The mask of the prefix, of shape (1, 1,
    n_rows * length, n_prefix), is added to scores with the prefix; with ``None`` all tokens see all
    of it. The result has shape (n_rows, length, n_heads, width), and its gradient reaches the
    prefix as the sum over all rows. Layers of one forward pass should get the same ``masks``.
    """
    if can_train_with_kernels(query, value):
        masks = KernelMasks() if masks is None else masks
        return fused_joint_attention(
            query,
            key,
            value,
            prefix,
            mask=mask,
            prefix_mask=prefix_mask,
            scaling=scaling,
            masks=masks,
        )
    mask = to_additive(mask, query)
    if prefix_mask is not None:
        prefix_mask = prefix_mask[0, 0].unflatten(0, (len(query), -1))
    if _is_faster_with_copies(query, value, prefix):
        columns = _join_masks(prefix_mask, mask, prefix[0].shape[2])
        return _attend_to_copies(query, key, value, prefix, mask=columns, scaling=scaling)
    output: Any = _JointAttention.apply(query, key, value, *prefix, mask, prefix_mask, scaling)
    return output


def _is_faster_with_copies(query: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor]) -> bool:
    """Say whether to copy the prefix for each row: it is fast, and adds little to long rows."""
    length, n_prefix = query.shape[2], prefix[0].shape[2]
    return (
        query.device.type == "cpu"
        and query.dtype == torch.float32
        and query.shape[3] == value.shape[3]  # torch has no fused attention for other shapes
        and length >= max(_LEAST_COPIED, n_prefix)
    )


def _attend_to_copies(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    *,
    mask: Tensor,
    scaling: float,
) -> Tensor:
    keys, values = (
        _with_a_copy(far, near, query.shape[1])
        for far, near in zip(prefix, (key, value), strict=True)
    )
    output = scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
    return output.transpose(1, 2).contiguous()


def _join_masks(prefix_mask: Tensor | None, mask: Tensor, n_prefix: int) -> Tensor:
    """Return one mask for the prefix and the row, of shape (n_rows or 1, 1, length, n_columns)."""
    if prefix_mask is None:
        return pad(mask, (n_prefix, 0))  # zeros: the whole prefix is visible
    return torch.cat([prefix_mask.unsqueeze(1), mask.expand(len(prefix_mask), -1, -1, -1)], dim=3)


def _with_a_copy(far: Tensor, near: Tensor, n_heads: int) -> Tensor:
    """Put the prefix before each row, and repeat each key head for the query heads it serves."""
    whole = torch.cat([far.expand(len(near), -1, -1, -1), near], dim=2)
    shared = whole.unsqueeze(2).expand(-1, -1, n_heads // whole.shape[1], -1, -1)
    return shared.flatten(1, 2)


class _Inputs(NamedTuple):
    """The inputs of attention with the key heads first, which do not depend on each other.

    The query heads that one key head serves are joined along the length, so keys and values need
    not be repeated: n_queries is their number times the length of a row.
    """

    query: Tensor  # (n_key_heads, n_rows, n_queries, width)
    key: Tensor  # (n_key_heads, n_rows, length, width)
    value: Tensor  # (n_key_heads, n_rows, length, width)
    far_key: Tensor  # (n_key_heads, n_prefix, width)
    far_value: Tensor  # (n_key_heads, n_prefix, width)

    @property
    def n_prefix(self) -> int:
        return self.far_key.shape[1]

    def split_heads(self) -> list[_Inputs]:
        """Return groups of key heads that are small enough for the limit on attention weights."""
        n_heads, n_rows, n_queries, _ = self.query.shape
        n_columns = self.n_prefix + self.key.shape[2]
        n_bytes = n_rows * n_queries * n_columns * _wide(self.query[:0]).itemsize
        most = _MOST_BYTES_ON_CPU if self.query.device.type == "cpu" else _MOST_BYTES
        size = max(1, min(n_heads, most // max(n_bytes, 1)))
        groups = zip(*(tensor.split(size) for tensor in self), strict=True)
        return [_Inputs(*group) for group in groups]


class _Masks(NamedTuple):
    """What is added to scores, the same for all heads."""

    near: Tensor  # (n_rows or 1, 1, length, length)
    far: Tensor | None  # (n_rows, length, n_prefix)


class _JointAttention(torch.autograd.Function):
    """Attention whose backward pass computes the weights again instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        query, key, value, far_key, far_value, mask, far_mask, scaling = arguments
        inputs = _Inputs(
            _fold(query, key.shape[1]),
            key.transpose(0, 1).contiguous(),
            value.transpose(0, 1).contiguous(),
            far_key.squeeze(0),
            far_value.squeeze(0),
        )
        ctx.save_for_backward(*inputs, mask, far_mask)
        ctx.scaling = scaling
        masks = _Masks(mask, far_mask)
        output = _join([_output(group, masks, scaling) for group in inputs.split_heads()])
        return _unfold(output, query.shape[2]).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, mask, far_mask = ctx.saved_tensors
        masks = _Masks(mask, far_mask)
        groups = _Inputs(*inputs).split_heads()
        received = _fold(gradients[0].transpose(1, 2), inputs[0].shape[0])
        received_groups = received.split([len(group.query) for group in groups])
        found = [
            _gradients(group, masks, gradient, ctx.scaling)
            for group, gradient in zip(groups, received_groups, strict=True)
        ]
        joined = _Inputs(*map(_join, zip(*found, strict=True)))
        return (
            _unfold(joined.query, mask.shape[-1]),
            joined.key.transpose(0, 1),
            joined.value.transpose(0, 1),
            joined.far_key.unsqueeze(0),
            joined.far_value.unsqueeze(0),
            *(None, None),  # the masks
            None,  # the scaling
        )


def _fold(heads: Tensor, n_key_heads: int) -> Tensor:
    """Turn (n_rows, n_heads, length, width) into (n_key_heads, n_rows, n_queries, width)."""
    grouped = heads.unflatten(1, (n_key_heads, -1)).transpose(0, 1)
    return grouped.flatten(2, 3).contiguous()


def _unfold(folded: Tensor, length: int) -> Tensor:
    """Undo ``_fold``."""
    return folded.unflatten(2, (-1, length)).transpose(0, 1).flatten(1, 2)


def _join(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _weights(inputs: _Inputs, masks: _Masks, scaling: float) -> Tensor:
    """Return attention weights of shape (n_key_heads, n_rows, n_queries, n_prefix + length).

    They have the precision of scores: rounded to half of it, large scores would be far off.
    """
    query, key, far_key = map(_wide, (inputs.query, inputs.key, inputs.far_key))
    n_columns = inputs.n_prefix + key.shape[2]
    # Both products write into parts of one tensor, so that one softmax covers them without a copy.
    scores = query.new_empty(*query.shape[:3], n_columns)
    far, near = _columns(scores, inputs.n_prefix)
    # Masks are written first, and products are then added to them. They have one line for each
    # token of a row, and repeat for every query head that was joined along the length.
    far_columns, near_columns = scores.unflatten(2, (-1, key.shape[2])).split(
        [inputs.n_prefix, key.shape[2]], dim=-1
    )
    near_columns.copy_(masks.near.unsqueeze(0).expand_as(near_columns))
    if masks.far is None:
        _multiply(query.flatten(1, 2), far_key.mT, scaling, out=far)
    else:
        far_columns.copy_(masks.far[None, :, None].expand_as(far_columns))
        torch.baddbmm(far, query.flatten(1, 2), far_key.mT, alpha=scaling, out=far)
    torch.baddbmm(near, query.flatten(0, 1), key.flatten(0, 1).mT, alpha=scaling, out=near)
    return scores.softmax(dim=-1)


def _output(inputs: _Inputs, masks: _Masks, scaling: float) -> Tensor:
    weights = _weights(inputs, masks, scaling).to(inputs.value.dtype)
    far, near = _columns(weights, inputs.n_prefix)
    from_prefix = (far @ inputs.far_value).view(*near.shape[:2], -1)
    output = torch.baddbmm(from_prefix, near, inputs.value.flatten(0, 1))
    return output.view(*inputs.query.shape[:3], -1)


def _gradients(inputs: _Inputs, masks: _Masks, received: Tensor, scaling: float) -> _Inputs:
    """Return the gradient of each input, given the gradient of the outputs.

    With scores S, weights P = softmax(S), values V and outputs O = P V, the chain rule gives
    dV = Pᵀ dO and dP = dO Vᵀ; dS follows from dP by the derivative of the softmax; then
    dQ = scaling dS K and dK = scaling dSᵀ Q. Each product is computed twice, for the columns of the
    prefix (far) and for those of the rows (near). Only the softmax connects the two.
    """
    # For near products, each row of each key head is one matrix. For far products, all rows of a
    # key head are one matrix, because they read the same keys: so a product with the transpose sums
    # over the rows, which is what the gradient of a shared prefix has to do.
    query, key, value, received_near = (
        tensor.flatten(0, 1) for tensor in (inputs.query, inputs.key, inputs.value, received)
    )
    query_far, received_far = inputs.query.flatten(1, 2), received.flatten(1, 2)
    weights = _weights(inputs, masks, scaling)
    far, near = _columns(weights.to(value.dtype), inputs.n_prefix)
    to_far_value, to_value = far.mT @ received_far, near.mT @ received_near
    to_weights = torch.empty_like(weights)
    far, near = _columns(to_weights, inputs.n_prefix)
    torch.bmm(_wide(received_far), _wide(inputs.far_value).mT, out=far)
    torch.bmm(_wide(received_near), _wide(value).mT, out=near)
    to_scores = torch.ops.aten._softmax_backward_data(  # noqa: SLF001  (what torch itself calls)
        to_weights, weights, -1, weights.dtype
    )
    far, near = _columns(to_scores.to(query.dtype), inputs.n_prefix)
    to_query = _multiply(far, inputs.far_key, scaling).view(query.shape)
    return _Inputs(
        query=torch.baddbmm(to_query, near, key, alpha=scaling).view(inputs.query.shape),
        key=_multiply(near.mT, query, scaling).view(inputs.key.shape),
        value=to_value.view(inputs.value.shape),
        far_key=_multiply(far.mT, query_far, scaling),
        far_value=to_far_value,
    )


def _multiply(one: Tensor, other: Tensor, scaling: float, out: Tensor | None = None) -> Tensor:
    """Return the scaled product of two batches of matrices, without a pass for the scaling."""
    if out is None:
        out = one.new_empty(*one.shape[:2], other.shape[2])
    return torch.baddbmm(out, one, other, beta=0, alpha=scaling, out=out)


def _wide(values: Tensor) -> Tensor:
    """Return values in the precision of scores: float32 or more, except on a CPU.

    There, scores in half precision take half the time.
    """
    is_cpu = values.device.type == "cpu"
    return values if is_cpu else values.to(torch.promote_types(values.dtype, torch.float32))


def _columns(weights: Tensor, n_prefix: int) -> tuple[Tensor, Tensor]:
    """Return views of the columns of the prefix and of those of the rows, as batches of matrices.

    The first has one matrix for each key head, the second one for each row of each key head.
    """
    return weights.flatten(1, 2)[..., :n_prefix], weights.flatten(0, 1)[..., n_prefix:]
