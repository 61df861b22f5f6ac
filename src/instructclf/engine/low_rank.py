"""Low-rank updates of linear layers, with as little beside the layer's own product as can be.

The update is added to the layer's output by one fused multiply-add, in the layer's own precision,
where adding, scaling and converting one after the other would pass over the output four times.
"""

from __future__ import annotations

from torch import Tensor


def add_low_rank_update(output: Tensor, x: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """Return ``output + scaling * x Aᵀ Bᵀ``, computed in place and in the precision of ``output``.

    Parameters
    ----------
    output : Tensor of shape (..., n_out)
        What a linear layer made of ``x``. It is overwritten.
    x : Tensor of shape (..., n_in)
        The layer's input.
    a : Tensor of shape (rank, n_in)
        The first factor. Kept in float32, it is converted for the product alone.
    b : Tensor of shape (n_out, rank)
        The second factor.
    scaling : float
        What the update is multiplied by.

    Returns
    -------
    Tensor of shape (..., n_out)
        ``output``.
    """
    dtype = output.dtype
    narrow = x.reshape(-1, x.shape[-1]).to(dtype) @ a.to(dtype).t()
    flat = output.view(-1, output.shape[-1])
    return flat.addmm_(narrow, b.to(dtype).t(), alpha=scaling).view_as(output)
