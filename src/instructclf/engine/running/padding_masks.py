"""Padding masks that hide nothing, which is known before they are sent to a device.

Some architectures count positions by the padding mask, so every forward pass gets one. transformers
reads it back to find out whether it hides anything, and the host waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

_hides_nothing: ContextVar[bool] = ContextVar("hides_nothing", default=False)


@contextmanager
def hiding_nothing() -> Iterator[None]:
    """Promise that the padding masks of forward passes inside the block are all ones."""
    token = _hides_nothing.set(True)
    try:
        yield
    finally:
        _hides_nothing.reset(token)


def without_reading(make_mask: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of transformers make masks without a padding mask that hides nothing."""

    @wraps(make_mask)
    def make(*inputs: Any, attention_mask: Any = None, **options: Any) -> Any:
        padding = None if _hides_nothing.get() else attention_mask
        return make_mask(*inputs, attention_mask=padding, **options)

    return make
