"""Memory that a process keeps without need: freed parts of its heap, and compiled products."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_CAPACITY_BEFORE_ONEDNN = "DNNL_PRIMITIVE_CACHE_CAPACITY"
_N_PRODUCTS_KEPT = 64
"""A batch needs about 15, which all layers share. The next batch may have another shape."""


def keep_few_products() -> None:
    """Bound the memory of the products that oneDNN compiles, some 0.3 MB for each shape.

    By itself it keeps 1,024. Texts make batches of hundreds of shapes, and most never come again.
    Compiling one takes a millisecond. oneDNN reads the variable at its first product in a process,
    and a value that a user has set stays.
    """
    if _CAPACITY_BEFORE_ONEDNN not in os.environ:
        os.environ.setdefault(_CAPACITY, str(_N_PRODUCTS_KEPT))


def give_back_free_memory() -> None:
    """Return freed memory of the heap to the system, where the C library does so on request.

    Reading a tokenizer of 262,144 tokens leaves 190 MB of free pieces, too small for tensors.
    """
    trim = _find_trim()
    if trim is not None:
        trim(0)


@cache
def _find_trim() -> Any:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # that of glibc
