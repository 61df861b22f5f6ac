"""A lean Llama for training on a CPU, with weights that convert to ``LlamaForCausalLM``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EPSILON = 1e-5
THETA = 10_000.0
HEAD = 64
WHOLE = 512
"""The longest rows whose attention scores are computed in one product."""


@dataclass(frozen=True)
class Shape:
    """The sizes of the model.

    Parameters
    ----------
    vocabulary, width, layers, hidden, context : int
        Tokens, channels, blocks, channels inside a feed-forward block, longest sequence.
    """

    vocabulary: int = 8192
    width: int = 256
    layers: int = 7
    hidden: int = 704
    context: int = 4096


class _Saved(Protocol):
    """The context that autograd passes to both directions."""

    saved_tensors: tuple[torch.Tensor, ...]
    save_for_backward: Callable[..., None]


class _RMSNorm(torch.autograd.Function):
    """Root-mean-square normalisation with a short backward pass."""

    @staticmethod
    def forward(ctx: _Saved, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square()
        scale = torch.rsqrt(square / x.shape[-1] + EPSILON).to(x.dtype)
        normal = x * scale
        ctx.save_for_backward(normal, scale, weight)
        return normal * weight

    @staticmethod
    def backward(ctx: _Saved, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        normal, scale, weight = ctx.saved_tensors
        inner = grad * weight
        mean = (inner * normal).mean(-1, keepdim=True)
        return (inner - normal * mean) * scale, (grad * normal).sum((0, 1))


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend causally; all tensors have the shape ``(batch, heads, length, channels)``.

    PyTorch's operator computes in small tiles on a CPU. For short rows one large product for each
    head is a tenth to a third faster, forward and backward.
    """
    length = query.shape[2]
    if query.is_cuda or length > WHOLE:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    flat = [x.flatten(0, 1) for x in (query, key, value)]
    hidden = torch.full((length, length), -torch.inf, dtype=query.dtype).triu(1)
    scores = torch.baddbmm(hidden, flat[0], flat[1].transpose(1, 2), alpha=query.shape[-1] ** -0.5)
    return (torch.softmax(scores, -1) @ flat[2]).view(query.shape)


class Block(nn.Module):
    """Attention and a gated feed-forward layer.

    Parameters
    ----------
    shape : Shape
        The sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.hidden
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.norms = nn.Parameter(torch.ones(2, width))

    def forward(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, length, width)`` to the same."""
        batch, length, width = x.shape
        heads = width // HEAD
        mixed = self.query_key_value(_RMSNorm.apply(x, self.norms[0]))
        mixed = mixed.view(batch, length, 3 * heads, HEAD)
        turned, value = mixed[:, :, : 2 * heads], mixed[:, :, 2 * heads :]
        turned = turned * cosine + torch.roll(turned, HEAD // 2, -1) * sine
        query, key = turned.chunk(2, 2)
        read = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        x = x + self.output(read.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(_RMSNorm.apply(x, self.norms[1])).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Decoder(nn.Module):
    """Token ids to final hidden states; the embedding is the output layer.

    The probe predicts the sentiment of a review from the state of each token after half of the
    blocks, so that the other blocks can carry it to the answer. It is not exported.

    Parameters
    ----------
    shape : Shape
        The sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.norm = nn.Parameter(torch.ones(shape.width))
        self.probe = nn.Parameter(torch.zeros(shape.width))
        angle = THETA ** (-torch.arange(0, HEAD, 2) / HEAD)
        turn = torch.outer(torch.arange(float(shape.context)), angle)[:, None]
        self.register_buffer("cosine", torch.cat([turn.cos(), turn.cos()], -1), persistent=False)
        self.register_buffer("sine", torch.cat([-turn.sin(), turn.sin()], -1), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and "norm" not in name:
                out = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 if "embedding" in name else 0.04)
                weight.data *= 0.2 if out else 1.0

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(batch, length)`` ids to ``(batch, length, width)`` states, last and halfway."""
        length = ids.shape[1]
        cosine, sine = self.cosine[:length], self.sine[:length]
        x = self.embedding(ids)
        halfway = x
        for i, block in enumerate(self.blocks, 1):
            x = block(x, cosine, sine)
            if i == (len(self.blocks) + 1) // 2:
                halfway = x
        return _RMSNorm.apply(x, self.norm), _RMSNorm.apply(halfway, torch.ones_like(self.norm))


def to_llama(state: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
    """Return the weights of a `Decoder` by the names of ``LlamaForCausalLM``."""
    found = {
        "model.embed_tokens.weight": state["embedding.weight"],
        "model.norm.weight": state["norm"],
    }
    for i in range(shape.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        parts = state[f"{ours}.query_key_value.weight"].chunk(3)
        for name, part in zip("qkv", parts, strict=True):
            found[f"{theirs}.self_attn.{name}_proj.weight"] = part.contiguous()
        gate, up = state[f"{ours}.gate_up.weight"].chunk(2)
        found[f"{theirs}.self_attn.o_proj.weight"] = state[f"{ours}.output.weight"]
        found[f"{theirs}.mlp.gate_proj.weight"] = gate.contiguous()
        found[f"{theirs}.mlp.up_proj.weight"] = up.contiguous()
        found[f"{theirs}.mlp.down_proj.weight"] = state[f"{ours}.down.weight"]
        before, after = state[f"{ours}.norms"]
        found[f"{theirs}.input_layernorm.weight"] = before.contiguous()
        found[f"{theirs}.post_attention_layernorm.weight"] = after.contiguous()
    return found


def from_llama(found: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
    """Undo `to_llama`: return the weights of a `Decoder`, without its probe."""
    state = {
        "embedding.weight": found["model.embed_tokens.weight"],
        "norm": found["model.norm.weight"],
    }
    for i in range(shape.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        inner = {
            f"{ours}.query_key_value.weight": [f"self_attn.{name}_proj" for name in "qkv"],
            f"{ours}.output.weight": ["self_attn.o_proj"],
            f"{ours}.gate_up.weight": ["mlp.gate_proj", "mlp.up_proj"],
            f"{ours}.down.weight": ["mlp.down_proj"],
        }
        for name, parts in inner.items():
            state[name] = torch.cat([found[f"{theirs}.{part}.weight"] for part in parts])
        norms = ("input_layernorm", "post_attention_layernorm")
        state[f"{ours}.norms"] = torch.stack([found[f"{theirs}.{n}.weight"] for n in norms])
    return state


def grow(
    state: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor], layers: int, wanted: int
) -> dict[str, torch.Tensor]:
    """Insert blocks between those of a model that compute the identity at first.

    The output of a new block begins as zero, as in Net2Net (Chen et al. 2016).

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        The weights of a `Decoder`.
    fresh : mapping of str to torch.Tensor
        The first weights of a deeper one.
    layers, wanted : int
        The number of blocks of each.

    Returns
    -------
    dict
        Weights of the deeper model, which computes the same.
    """
    positions = [round(i * wanted / layers) for i in range(layers)]
    found = {name: weight for name, weight in state.items() if not name.startswith("blocks.")}
    for position in range(wanted):
        new, old = f"blocks.{position}.", None
        if position in positions:
            old = f"blocks.{positions.index(position)}."
        source, prefix = (fresh, new) if old is None else (state, old)
        block = {
            name.removeprefix(prefix): w for name, w in source.items() if name.startswith(prefix)
        }
        for name, weight in block.items():
            adds = old is None and name in {"output.weight", "down.weight"}
            found[new + name] = torch.zeros_like(weight) if adds else weight
    return found
