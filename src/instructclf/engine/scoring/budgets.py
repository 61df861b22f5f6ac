"""How many tokens go through a model at once: what keeps the device busy, and fits its memory."""

from __future__ import annotations

import logging
from typing import Any

import psutil
import torch

from instructclf.engine.models.placement import input_device
from instructclf.exceptions import ScoringError

_logger = logging.getLogger(__name__)

_CPU_TOKENS = 512
_CPU_TOKENS_HALF = 1024
"""In half precision, which is as many bytes."""
_ACCELERATOR_TOKENS = 16_384
_FEWEST_TOKENS = 64
_SHARE_OF_FREE_MEMORY = 0.5
_WIDTHS_ALIVE = 12
"""Activations of a layer alive at once, in widths of its hidden state: residual, normed input,
queries, keys, values, attention output and their float32 copies."""


class TokenBudget:
    """The most tokens of a batch, lowered where memory runs out.

    Parameters
    ----------
    n_tokens : int
        The most tokens to begin with, padding included.
    """

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens

    def lower(self, n_rows: int, length: int, error: BaseException) -> None:
        """Halve the budget, after a batch ran out of memory.

        Parameters
        ----------
        n_rows : int
            The rows of that batch.
        length : int
            The tokens of its longest row.
        error : BaseException
            What was raised.

        Raises
        ------
        ScoringError
            If that batch was a single row, which cannot be parted.
        """
        if n_rows == 1:
            msg = (
                f"Memory ran out with a single text of {length} tokens. Lower max_length, take a "
                f"smaller model or dtype='bfloat16', or free memory. The device said: {error}"
            )
            raise ScoringError(msg) from error
        self.n_tokens = max(length, n_rows * length // 2)
        _logger.warning("Memory ran out: going on with %d tokens a batch", self.n_tokens)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def make_budget(model: Any, max_batch_tokens: int | None) -> TokenBudget:
    """Return the budget asked for, or the one that suits the model and the memory that is free.

    On a CPU more than a few hundred tokens only add padding, or twice as many in half precision,
    whose matrix units take more to be busy; an accelerator needs thousands. Both take less where a
    batch would not fit into half of the free memory.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    max_batch_tokens : int or None
        The budget, if the user has set one.

    Returns
    -------
    TokenBudget
        A budget of its own.
    """
    if max_batch_tokens is not None:
        return TokenBudget(max_batch_tokens)
    weight = model.get_input_embeddings().weight
    device = input_device(model)
    most = _most_tokens(device, weight.dtype)
    free = free_memory(device)
    if free is not None:
        fitting = int(free * _SHARE_OF_FREE_MEMORY / _bytes_per_token(model, weight.dtype))
        most = min(most, max(fitting, _FEWEST_TOKENS))
    return TokenBudget(most)


def _most_tokens(device: torch.device, dtype: torch.dtype) -> int:
    if device.type != "cpu":
        return _ACCELERATOR_TOKENS
    return _CPU_TOKENS_HALF if dtype.itemsize == 2 else _CPU_TOKENS


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes are free on a device, or ``None`` where nothing tells.

    Parameters
    ----------
    device : torch.device
        The device. On CUDA, what torch holds in reserve counts as free.

    Returns
    -------
    int or None
        Bytes.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type == "cpu":
        return psutil.virtual_memory().available
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on whatever device.

    Parameters
    ----------
    error : BaseException
        What was raised. On the CPU torch raises a plain ``RuntimeError``.

    Returns
    -------
    bool
        Whether less work at once may succeed.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        said in str(error) for said in ("not enough memory", "out of memory", "can't allocate")
    )


def inner_width(config: Any, hidden: int) -> int:
    """Return the width of a model's feed-forward layers, the widest of them.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        The configuration of its text part.
    hidden : int
        The width of its hidden states, which tells it where the configuration does not.

    Returns
    -------
    int
        The width.
    """
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    return max(inner) if isinstance(inner, list) else inner  # one of each layer, in some families


def _bytes_per_token(model: Any, dtype: torch.dtype) -> int:
    config = model.config.get_text_config()
    hidden = model.get_input_embeddings().weight.shape[-1]
    return (_WIDTHS_ALIVE * hidden + 3 * inner_width(config, hidden)) * max(dtype.itemsize, 2)
