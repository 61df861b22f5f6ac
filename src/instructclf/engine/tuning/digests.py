"""Values, with tensors in them → a checksum, which is another one wherever they differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor


def digest(value: Any) -> str:
    """Return the checksum of a value.

    Parameters
    ----------
    value : object
        Numbers, texts, tensors, data classes, and containers of these. Of anything else, what
        ``repr`` says counts.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    text = json.dumps(value, default=_to_plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _to_plain(value: Any) -> Any:
    """Return what JSON can hold, for what it cannot."""
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        own = hashlib.sha256(array.data).hexdigest()
        return ["tensor", str(value.dtype), list(value.shape), own]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):  # in an order that is another one in each process
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__} | asdict(value)
    return dict(value) if isinstance(value, Mapping) else repr(value)
