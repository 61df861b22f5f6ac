"""Tensors of the host → the same tensors on a device, in a single copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def send(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return tensors of one data type on a device.

    They go there together, since a copy takes longer to begin than to run. From pinned memory, CUDA
    copies while the host goes on.
    """
    if device.type == "cpu":
        return list(tensors)
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    if device.type == "cuda":
        joined = joined.pin_memory()
    parts = joined.to(device, non_blocking=True).split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def send_integers(device: torch.device, *values: Any) -> list[Tensor]:
    """Return arrays or sequences of integers as tensors on a device."""
    return send([torch.from_numpy(np.asarray(each, dtype=np.int64)) for each in values], device)
