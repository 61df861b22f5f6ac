"""Attention of rows to themselves and to one shared prefix, with gradients for both.

One softmax runs over the prefix, which no row copies, and over a row's own tokens. Only queries,
keys and values are kept for the backward pass: the attention weights, which would take most of the
memory of long prompts, are computed again there. Matrix products only, so it runs on every device;
on a CPU in bfloat16 its backward pass takes a third of the time of torch's own. In float32 that is
the faster one for long rows, so there each row gets its copy of the prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

TUNED_PREFIX = "tuned_prefix"
"""The keyword through which a forward pass hands the prefix to every layer."""

_MOST_BYTES = 2**26
"""Of attention weights alive at once: key heads take turns where there would be more."""
_MOST_BYTES_ON_CPU = 2**23
"""About as many as its cache holds."""
_LEAST_COPIED = 128
"""From so many tokens of a row on, on a CPU in float32, torch's own attention is the faster one."""


class TunedPrefix(Protocol):
    """What the layers do with a prefix: compute it, or attend to it."""

    def attend(
        self, plain: AttentionFunction, module: nn.Module, *inputs: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Take the place of the attention function ``plain`` in one layer."""
        ...


def with_tuned_prefix(plain: AttentionFunction) -> AttentionFunction:
    """Extend an attention function by a prefix that rows share and send gradients to.

    Parameters
    ----------
    plain : callable
        The attention function to use where there is no prefix.

    Returns
    -------
    callable
        An attention function with the same parameters, and one more: a ``TunedPrefix``.
    """

    def attend(module: nn.Module, *inputs: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        prefix: TunedPrefix | None = options.pop(TUNED_PREFIX, None)
        if prefix is None:
            return plain(module, *inputs, **options)
        return prefix.attend(plain, module, *inputs, **options)

    return attend


def joint_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None,
    scaling: float,
) -> Tensor:
    """Let each row attend to the whole prefix and to itself.

    Parameters
    ----------
    query : Tensor of shape (n_rows, n_heads, length, width)
        The queries.
    key, value : Tensor of shape (n_rows, n_key_heads, length, width)
        The rows' own keys and values. Each head of theirs serves ``n_heads / n_key_heads`` others.
    prefix : tuple of (Tensor, Tensor)
        The prefix's keys and values, of shape (1, n_key_heads, n_prefix, width).
    mask : Tensor of shape (n_rows or 1, 1, length, length) or None
        Added to the rows' scores of themselves, or true where these count. ``None`` is causal.
    scaling : float
        What scores are multiplied by.

    Returns
    -------
    Tensor of shape (n_rows, length, n_heads, width)
        The outputs. Their gradient reaches the prefix as the sum over all rows.
    """
    mask = _additive(mask, query)
    if _is_faster_with_copies(query, value, prefix):
        return _attend_to_copies(query, key, value, prefix, mask=mask, scaling=scaling)
    output: Any = _JointAttention.apply(query, key, value, *prefix, mask, scaling)
    return output


def _is_faster_with_copies(query: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor]) -> bool:
    """Say whether a copy of the prefix for each row pays, and takes little beside the row."""
    length, n_prefix = query.shape[2], prefix[0].shape[2]
    is_fused = query.device.type == "cpu" and query.dtype == torch.float32
    return (
        is_fused
        and query.shape[3] == value.shape[3]  # without which torch does not fuse it
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
    seen = pad(mask, (prefix[0].shape[2], 0))
    output = scaled_dot_product_attention(query, keys, values, attn_mask=seen, scale=scaling)
    return output.transpose(1, 2).contiguous()


def _with_a_copy(far: Tensor, near: Tensor, n_heads: int) -> Tensor:
    """Lay the prefix before each row's own, and give each query head a key head of its own."""
    whole = torch.cat([far.expand(len(near), -1, -1, -1), near], dim=2)
    shared = whole.unsqueeze(2).expand(-1, -1, n_heads // whole.shape[1], -1, -1)
    return shared.flatten(1, 2)


class _Inputs(NamedTuple):
    """Tensors with the key heads first, which do not depend on each other.

    Query heads that share a key head are laid end to end, so that no key is repeated: ``query`` has
    the shape (n_key_heads, n_rows, n_queries, width), ``key`` and ``value`` have
    (n_key_heads, n_rows, length, width), those of the prefix (n_key_heads, n_prefix, width).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    far_key: Tensor
    far_value: Tensor

    @property
    def n_prefix(self) -> int:
        return self.far_key.shape[1]

    def some_heads(self) -> list[_Inputs]:
        """Return parts of the key heads, few enough for the memory that weights may take."""
        n_heads, n_rows, n_queries, _ = self.query.shape
        n_columns = self.n_prefix + self.key.shape[2]
        n_bytes = n_rows * n_queries * n_columns * self.query.itemsize
        most = _MOST_BYTES_ON_CPU if self.query.device.type == "cpu" else _MOST_BYTES
        size = max(1, min(n_heads, most // max(n_bytes, 1)))
        return [_Inputs(*part) for part in zip(*(own.split(size) for own in self), strict=True)]


class _JointAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        query, key, value, far_key, far_value, mask, scaling = arguments
        inputs = _Inputs(
            _fold(query, key.shape[1]),
            key.transpose(0, 1).contiguous(),
            value.transpose(0, 1).contiguous(),
            far_key.squeeze(0),
            far_value.squeeze(0),
        )
        ctx.save_for_backward(*inputs, mask)
        ctx.scaling = scaling
        output = _joined([_output(part, mask, scaling) for part in inputs.some_heads()])
        return _unfold(output, query.shape[2]).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, mask = ctx.saved_tensors
        parts = _Inputs(*inputs).some_heads()
        sent = _fold(gradients[0].transpose(1, 2), inputs[0].shape[0])
        found = [
            _gradients(part, mask, own, ctx.scaling)
            for part, own in zip(
                parts, sent.split([len(part.query) for part in parts]), strict=True
            )
        ]
        whole = _Inputs(*map(_joined, zip(*found, strict=True)))
        return (
            _unfold(whole.query, mask.shape[-1]),
            whole.key.transpose(0, 1),
            whole.value.transpose(0, 1),
            whole.far_key.unsqueeze(0),
            whole.far_value.unsqueeze(0),
            None,
            None,
        )


def _fold(heads: Tensor, n_key_heads: int) -> Tensor:
    """Turn (n_rows, n_heads, length, width) into (n_key_heads, n_rows, n_queries, width)."""
    grouped = heads.unflatten(1, (n_key_heads, -1)).transpose(0, 1)
    return grouped.flatten(2, 3).contiguous()


def _unfold(folded: Tensor, length: int) -> Tensor:
    return folded.unflatten(2, (-1, length)).transpose(0, 1).flatten(1, 2)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _additive(mask: Tensor | None, like: Tensor) -> Tensor:
    if mask is None:
        length = like.shape[2]
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=like.device).tril()
    if mask.dtype != torch.bool:
        return mask
    hidden = torch.finfo(like.dtype).min
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(~mask, hidden)


def _weights(part: _Inputs, mask: Tensor, scaling: float) -> Tensor:
    """Return attention weights of shape (n_key_heads, n_rows, n_queries, n_prefix + length)."""
    query, key = part.query, part.key
    n_columns = part.n_prefix + key.shape[2]
    scores = query.new_empty(*query.shape[:3], n_columns)
    far, near = _columns(scores, part.n_prefix)
    _multiply(query.flatten(1, 2), part.far_key.mT, scaling, out=far)
    own = scores[..., part.n_prefix :].unflatten(2, (-1, key.shape[2]))
    own.copy_(mask.unsqueeze(0).expand_as(own))
    torch.baddbmm(near, query.flatten(0, 1), key.flatten(0, 1).mT, alpha=scaling, out=near)
    return scores.softmax(dim=-1)


def _output(part: _Inputs, mask: Tensor, scaling: float) -> Tensor:
    far, near = _columns(_weights(part, mask, scaling), part.n_prefix)
    from_prefix = (far @ part.far_value).view(*near.shape[:2], -1)
    output = torch.baddbmm(from_prefix, near, part.value.flatten(0, 1))
    return output.view(*part.query.shape[:3], -1)


def _gradients(part: _Inputs, mask: Tensor, sent: Tensor, scaling: float) -> _Inputs:
    """Return what reaches each input of what was sent to the outputs."""
    query, key, value, sent_near = (
        tensor.flatten(0, 1) for tensor in (part.query, part.key, part.value, sent)
    )
    query_far, sent_far = part.query.flatten(1, 2), sent.flatten(1, 2)
    weights = _weights(part, mask, scaling)
    far, near = _columns(weights, part.n_prefix)
    to_far_value, to_value = far.mT @ sent_far, near.mT @ sent_near
    to_weights = torch.empty_like(weights)
    far, near = _columns(to_weights, part.n_prefix)
    torch.bmm(sent_far, part.far_value.mT, out=far)
    torch.bmm(sent_near, value.mT, out=near)
    to_scores = torch.ops.aten._softmax_backward_data(  # noqa: SLF001  (what torch itself calls)
        to_weights, weights, -1, weights.dtype
    )
    far, near = _columns(to_scores, part.n_prefix)
    to_query = _multiply(far, part.far_key, scaling).view(query.shape)
    return _Inputs(
        query=torch.baddbmm(to_query, near, key, alpha=scaling).view(part.query.shape),
        key=_multiply(near.mT, query, scaling).view(part.key.shape),
        value=to_value.view(part.value.shape),
        far_key=_multiply(far.mT, query_far, scaling),
        far_value=to_far_value,
    )


def _multiply(one: Tensor, other: Tensor, scaling: float, out: Tensor | None = None) -> Tensor:
    """Return the scaled product of two batches of matrices, scaled within the product."""
    if out is None:
        out = one.new_empty(*one.shape[:2], other.shape[2])
    return torch.baddbmm(out, one, other, beta=0, alpha=scaling, out=out)


def _columns(weights: Tensor, n_prefix: int) -> tuple[Tensor, Tensor]:
    """Return the columns of the prefix, all rows in one, and those of each row itself."""
    return weights.flatten(1, 2)[..., :n_prefix], weights.flatten(0, 1)[..., n_prefix:]
