"""Indices out of range, found before a CUDA kernel meets them.

On a CPU they raise an error, which says that a model cannot take its inputs. On CUDA they stop the
device for the rest of the process, whether or not anybody catches the error. So what may fail is
tried under these checks, which wait for the device each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_BY_DIMENSION = {"gather", "index_add", "index_copy", "index_select", "scatter", "scatter_add"}
"""Operators that take a tensor, a dimension of it, and indices. Their names may end with ``_``."""
_BY_POSITION = {"index", "index_put", "_unsafe_index"}
"""Operators that take a tensor, and indices or masks for each of its first dimensions."""


@contextmanager
def checking_indices(device: torch.device) -> Iterator[None]:
    """Raise ``IndexError`` inside the block if an index of an operation on CUDA is out of range."""
    if device.type != "cuda":
        yield
        return
    with _CheckingIndices():
        yield


class _CheckingIndices(TorchDispatchMode):
    supports_higher_order_operators = True  # such as flex attention

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        name = func.name().removeprefix("aten::").split(".")[0].removesuffix("_")
        if name == "embedding":
            _check(args[1], len(args[0]), 0)
        elif name in _BY_DIMENSION:
            _check(args[2], args[0].shape[args[1]] if args[0].dim() else 1, 0)
        elif name in _BY_POSITION:
            _check_positions(args[0], args[1])
        return func(*args, **(kwargs or {}))


def _check_positions(tensor: Tensor, indices: list[Tensor | None]) -> None:
    sizes = list(tensor.shape)
    for index in indices:
        if index is not None and index.dtype in {torch.bool, torch.uint8}:
            del sizes[: index.dim()]  # a mask, whose shape the host compares
            continue
        size = sizes.pop(0)
        if index is not None:
            _check(index, size, -size)


def _check(index: Tensor, size: int, least: int) -> None:
    if index.numel() and not bool(((index >= least) & (index < size)).all()):
        msg = f"An index is out of range for a dimension of {size}."
        raise IndexError(msg)
