"""What CUDA's kernels demand, and what they cost: the operators that differ from those of a CPU.

The fused attention kernels are strict about types, widths, strides and addresses. Their checks are
those of ``flash_api.cpp`` and ``attention.cu`` in ``aten/src/ATen/native/transformers/cuda``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


VIEWS = _names(
    """alias as_strided detach diagonal empty empty_like empty_strided expand is_same_size
    lift_fresh new_empty new_empty_strided permute _reshape_alias select slice split
    split_with_sizes squeeze t transpose unbind unfold unsqueeze _unsafe_view view
    _local_scalar_dense"""
)
"""Operators that launch no kernel."""

WAITING = _names("_local_scalar_dense equal is_nonzero masked_select nonzero _unique2 unique_dim")
"""Operators after which the host knows numbers of the device, so that it has to wait for them."""

INDEXING = _names("index index_put index_put_ _index_put_impl_ _unsafe_index")
"""Operators that take indices on the CPU too, and wait if a mask decides how much they return."""

CHECKED_BY_KERNELS = INDEXING | _names(
    """embedding gather index_add index_add_ index_copy index_copy_ index_select nll_loss_forward
    scatter scatter_ scatter_add scatter_add_ take"""
)
"""Operators whose kernels find indices out of range, which destroys the context."""

CROSSING = _names("_to_copy copy_ _foreach_copy_ set_")
"""Operators that may read one device and write another."""

RANDOM = _names(
    """bernoulli bernoulli_ multinomial native_dropout normal_ rand randint randint_like randn
    randn_like rand_like random_ uniform_"""
)
"""Operators that draw from the generator of their device."""

NOT_COMPOSED = ("silu_backward", "_fused_rms_norm", "_fused_rms_norm_backward")
"""Operators that are one kernel on CUDA. Elsewhere torch composes them of others."""


def run(name: str, func: Any, args: Any, kwargs: Any, capability: tuple[int, int]) -> Any:
    """Run an operator on CPU tensors under the rules of CUDA."""
    special = _SPECIAL.get(name)
    if special is None:
        return func(*args, **kwargs)
    names = [argument.name for argument in func._schema.arguments]
    return special(capability, **dict(zip(names, args, strict=False)) | kwargs)


def _flash(
    capability: Any,
    *,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    scale: float | None = None,
) -> tuple[Any, ...]:
    _demand(capability >= (8, 0), "FlashAttention only supports Ampere GPUs or newer.")
    is_half = query.dtype in {torch.float16, torch.bfloat16}
    _demand(is_half, "FlashAttention only support fp16 and bf16 data type")
    _demand(query.dtype == key.dtype == value.dtype, "query and key must have the same dtype")
    for tensor in (query, key, value):
        _demand(tensor.stride(-1) == 1, "Input tensor must have contiguous last dimension")
    n_rows, n_heads, length, width = query.shape
    _demand(width % 8 == 0, "head_size must be a multiple of 8, this is ensured by padding!")
    _demand(width <= 256, "FlashAttention forward only supports head dimension at most 256")
    _demand(n_heads % key.shape[1] == 0, "Number of heads in key/value must divide that of query")
    alike = key.shape == value.shape and key.shape[0] == n_rows and key.shape[-1] == width
    _demand(alike, "k must have shape (batch_size, seqlen_k, num_heads_k, head_size_og)")
    # The kernel ends its causal mask at the last key, the other ones begin it at the first.
    _demand(not is_causal or length == key.shape[2], "causal queries and keys differ in number")
    output, normaliser = _attend(query, key, value, bias=None, is_causal=is_causal, scale=scale)
    state, offset = torch.empty(2, dtype=torch.uint64), torch.empty((), dtype=torch.uint64)
    lengths = None, None, length, key.shape[2]
    return output, normaliser, *lengths, state, offset, query.new_empty(0)


def _efficient(
    capability: Any,
    *,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[Any, ...]:
    kinds = {torch.float32, torch.float16, *([torch.bfloat16] if capability >= (8, 0) else [])}
    _demand(query.dtype in kinds, "cutlassF: no kernel found to launch!")
    _demand(query.dtype == key.dtype == value.dtype, "query, key and value must have one dtype")
    n_rows, n_heads, length, _ = query.shape
    for tensor in (key, value):
        _demand(tensor.shape[:2] == query.shape[:2], "batch sizes and numbers of heads differ")
    unit = 16 // query.itemsize
    for tensor in (query, key, value):
        _demand(tensor.stride(-1) == 1, "tensors must be contiguous in the last dimension")
        _demand(_is_aligned(tensor, unit), "query, key or value is not correctly aligned")
        _demand(tensor.shape[-1] % unit == 0, "cutlassF: no kernel found to launch!")
    if attn_bias is not None:
        shape = n_rows, n_heads, length, key.shape[2]
        _demand(attn_bias.dtype == query.dtype, "invalid dtype for bias")
        _demand(attn_bias.shape == shape, "attn_bias: wrong shape")
        _demand(attn_bias.stride(-1) == 1, "attn_bias: last dimension must be contiguous")
        _demand(_is_aligned(attn_bias, unit), "attn_bias is not correctly aligned")
    output, normaliser = _attend(
        query, key, value, bias=attn_bias, is_causal=is_causal, scale=scale
    )
    # Queries are rounded up to a multiple of 32, and nobody writes the rest.
    rounded = math.ceil(length / 32) * 32 if compute_log_sumexp else 0
    padded = torch.full((n_rows, n_heads, rounded), torch.nan)
    if compute_log_sumexp:
        padded[..., :length] = normaliser
    seed = torch.empty((), dtype=torch.long)
    return output, padded, seed, seed.clone()


def _is_aligned(tensor: Tensor, unit: int) -> bool:
    """Say whether each line begins at an address from which 16 bytes are read at once."""
    dimensions = list(zip(tensor.shape, tensor.stride(), strict=True))[:-1]
    strides = [stride for size, stride in dimensions if size > 1]
    return tensor.data_ptr() % 16 == 0 and all(stride % unit == 0 for stride in strides)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor]:
    """Return attention and its log normaliser, with scores and sums in float32."""
    n_repeats = query.shape[1] // key.shape[1]
    key, value = (heads.float().repeat_interleave(n_repeats, 1) for heads in (key, value))
    scores = query.float() @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.float()
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    normaliser = scores.logsumexp(-1)
    weights = (scores - normaliser.unsqueeze(-1)).exp().to(query.dtype)
    output = (weights.float() @ value).to(query.dtype)
    return _by_position(output), normaliser


def _by_position(heads: Tensor) -> Tensor:
    """Store heads as the kernels do: those of one position side by side."""
    return heads.transpose(1, 2).contiguous().transpose(1, 2)


def _flash_backward(
    capability: Any,
    *,
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    is_causal: bool,
    scale: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    for tensor in (grad_out, out):
        _demand(tensor.shape == query.shape, "out and dout must have the shape of the query")
    _demand(logsumexp.shape == query.shape[:3], "softmax_lse must have shape (b, h, seqlen_q)")
    return _attend_backward(
        grad_out, query, key, value, out, logsumexp, bias=None, is_causal=is_causal, scale=scale
    )


def _efficient_backward(
    capability: Any,
    *,
    grad_out_: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    out: Tensor,
    logsumexp: Tensor,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> tuple[Tensor | None, ...]:
    n_rows, n_heads, length, _ = query.shape
    for size, stride in zip((n_rows, n_heads), logsumexp.stride(), strict=False):
        _demand(size == 1 or stride % 8 == 0, "LSE is not correctly aligned")
    # The kernel takes for granted that the heads of a position are stored side by side.
    for tensor in (out, grad_out_):
        is_by_position = tensor.transpose(1, 2).is_contiguous()
        _demand(is_by_position, "out and grad_out have another order in memory")
    for tensor in (query, key, value):
        _demand(_is_aligned(tensor, 16 // query.itemsize), "cutlassB: no kernel found to launch!")
    normaliser = logsumexp[..., :length]
    found = _attend_backward(
        grad_out_, query, key, value, out, normaliser,
        bias=attn_bias, is_causal=is_causal, scale=scale,
    )  # fmt: skip
    return *found, None


def _attend_backward(  # noqa: PLR0917  (in the order of the kernels)
    sent: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    normaliser: Tensor,
    *,
    bias: Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, given the output and the log normaliser.

    The weights follow from the normaliser, as in the kernels: it may be that of more keys than
    these, if the output is that of all of them.
    """
    n_repeats = query.shape[1] // key.shape[1]
    keys, values = (heads.float().repeat_interleave(n_repeats, 1) for heads in (key, value))
    scaling = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query.float() @ keys.mT * scaling
    if bias is not None:
        scores = scores + bias.float()
    if is_causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    weights = (scores - normaliser.unsqueeze(-1)).exp()
    sent, output = sent.float(), output.float()
    to_scores = weights * (sent @ values.mT - (sent * output).sum(-1, keepdim=True)) * scaling
    to_keys, to_values = to_scores.mT @ query.float(), weights.mT @ sent
    summed = (heads.unflatten(1, (-1, n_repeats)).sum(2) for heads in (to_keys, to_values))
    found = (to_scores @ keys, *summed)
    to_query, to_key, to_value = (_by_position(tensor.to(query.dtype)) for tensor in found)
    return to_query, to_key, to_value


def choose_attention(  # noqa: PLR0917  (in the order of torch's function)
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    capability: tuple[int, int],
) -> Tensor | None:
    """Call the kernel that `scaled_dot_product_attention` chooses on CUDA, and pad what it needs.

    ``None`` where none of them can be used, and torch composes attention of other operators.
    """
    width, is_half = query.shape[-1], query.dtype in {torch.float16, torch.bfloat16}
    has_groups = query.shape[1] != key.shape[1]
    if dropout_p or value.shape[-1] != width or query.dtype == torch.float64:
        return None
    padded = [_padded(heads, 8) for heads in (query, key, value)]
    options = {"is_causal": is_causal, "scale": width**-0.5 if scale is None else scale}
    if attn_mask is None and is_half and capability >= (8, 0) and padded[0].shape[-1] <= 256:
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return flash(*padded, **options)[0][..., :width]
    if has_groups or (query.dtype == torch.bfloat16 and capability < (8, 0)):
        return None
    bias = attn_mask
    if bias is not None and bias.dtype == torch.bool:
        bias = torch.zeros_like(bias, dtype=query.dtype).masked_fill(~bias, -torch.inf)
    if bias is not None:
        shape = *query.shape[:3], key.shape[2]
        bias = _padded(bias, 16)[..., : key.shape[2]].expand(shape)
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    trains = any(tensor.requires_grad for tensor in padded)
    return efficient(*padded, bias, trains, **options)[0][..., :width]


def _padded(tensor: Tensor, unit: int) -> Tensor:
    n_spare = -tensor.shape[-1] % unit
    return torch.nn.functional.pad(tensor, (0, n_spare)) if n_spare else tensor


def _norm(
    capability: Any, *, input: Tensor, normalized_shape: Any, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    wide = input.float()
    scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (wide * scale * weight.float()).to(input.dtype), scale


def _norm_backward(
    capability: Any,
    *,
    grad_out: Tensor,
    input: Tensor,
    normalized_shape: Any,
    rstd: Tensor,
    weight: Tensor,
    output_mask: Any,
) -> tuple[Tensor, Tensor | None]:
    sent, normed = grad_out.float(), input.float() * rstd
    scaled = sent * weight.float()
    to_input = rstd * (scaled - normed * (scaled * normed).mean(-1, keepdim=True))
    to_weight = (sent * normed).flatten(0, -2).sum(0).to(weight.dtype) if output_mask[1] else None
    return to_input.to(input.dtype), to_weight


def _histogram(capability: Any, self: Tensor, *bounds: Any, **options: Any) -> Tensor:
    """Count integers too, as CUDA does and the CPU does not."""
    return torch.histc(self.float(), *bounds, **options).to(self.dtype)


def _demand(is_met: bool, message: str) -> None:
    if not is_met:
        raise RuntimeError(message)


_SPECIAL: dict[str, Any] = {
    "_scaled_dot_product_flash_attention": _flash,
    "_scaled_dot_product_efficient_attention": _efficient,
    "_scaled_dot_product_flash_attention_backward": _flash_backward,
    "_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "_fused_rms_norm": _norm,
    "_fused_rms_norm_backward": _norm_backward,
    "histc": _histogram,
}
