"""How many tokens go through a model at once: a busy device, within its free memory."""

from __future__ import annotations

import logging
import math
from typing import Any

import psutil
import torch

from instructclf.engine.models.placement import input_device
from instructclf.engine.running.arithmetic import has_matrix_units
from instructclf.exceptions import ScoringError

_logger = logging.getLogger(__name__)

_CPU_TOKENS = 512
_CPU_TOKENS_IN_TILES = 1024
"""Matrix units of a CPU are not busy with fewer."""
_ACCELERATOR_TOKENS = 16_384
_FEWEST_TOKENS = 64
_SHARE_OF_FREE_MEMORY = 0.5
_N_WIDTHS_ALIVE, _N_INNER_WIDTHS_ALIVE = 12, 3
"""Activations that one layer needs at once, in widths of its hidden state and of its feed-forward
part: residual, normed input, queries, keys, values, attention output and their float32 copies."""
_N_WIDTHS_KEPT, _N_INNER_WIDTHS_KEPT = 16, 6
"""Activations that one layer keeps for the backward pass, in the same units: inputs of norms,
projections, updates, attention and activation functions."""


class TokenBudget:
    """The most tokens of a batch. It is lowered when memory runs out.

    Parameters
    ----------
    n_tokens : int
        The most tokens at first, padding included.
    """

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens

    def lower(self, n_rows: int, length: int, error: BaseException) -> None:
        """Halve the budget, after a batch ran out of memory.

        A budget that was lowered since the batch was made is not raised again.

        Raises
        ------
        ScoringError
            If that batch was a single row, which cannot be split.
        """
        if n_rows == 1:
            msg = (
                f"Memory ran out with a single text of {length} tokens. Lower max_length, take a "
                f"smaller model or dtype='bfloat16', or free memory. The device said: {error}"
            )
            raise ScoringError(msg) from error
        self.n_tokens = min(self.n_tokens, max(length, n_rows * length // 2))
        _logger.warning("Memory ran out: continuing with %d tokens a batch", self.n_tokens)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def make_budget(model: Any, max_batch_tokens: int | None) -> TokenBudget:
    """Return the requested budget, or one that suits the model and the free memory.

    A CPU is busy with a few hundred tokens, and more would only add padding and memory. Matrix
    units of half precision need twice as many, and an accelerator thousands. On all, the budget is
    smaller if a batch would not fit into half of the free memory.
    """
    if max_batch_tokens is not None:
        return TokenBudget(max_batch_tokens)
    weight = model.get_input_embeddings().weight
    device = input_device(model)
    most = _ACCELERATOR_TOKENS
    if device.type == "cpu":
        most = cpu_tokens(weight.dtype, has_matrix_units=has_matrix_units())
    free = free_memory(device)
    if free is not None:
        hidden, config = weight.shape[-1], model.config.get_text_config()
        n_numbers = _N_WIDTHS_ALIVE * hidden + _N_INNER_WIDTHS_ALIVE * _inner_width(config, hidden)
        n_bytes = n_numbers * max(weight.dtype.itemsize, 2)
        most = min(most, max(int(free * _SHARE_OF_FREE_MEMORY / n_bytes), _FEWEST_TOKENS))
    return TokenBudget(most)


def make_tuning_budget(
    model: Any, max_batch_tokens: int | None, *, n_tuned_layers: int, keeps_activations: bool
) -> TokenBudget:
    """Return the budget of batches with a backward pass, for which layers keep activations.

    With gradient checkpointing they keep none, and run again instead.
    """
    budget = make_budget(model, max_batch_tokens)
    free = free_memory(model.device)
    if max_batch_tokens is not None or free is None or not keeps_activations:
        return budget
    config = model.config.get_text_config()
    hidden = config.hidden_size
    n_numbers = _N_WIDTHS_KEPT * hidden + _N_INNER_WIDTHS_KEPT * _inner_width(config, hidden)
    n_bytes = max(n_tuned_layers, 1) * n_numbers * model.get_input_embeddings().weight.itemsize
    fitting = int(free * _SHARE_OF_FREE_MEMORY / n_bytes)
    return TokenBudget(max(1, min(budget.n_tokens, fitting)))


def tokens_of_a_copy(model: Any, budget: TokenBudget, n_prefix: int) -> int:
    """Return how many tokens a row counts for at least, if it gets a copy of a prefix.

    So the copies of all rows of a batch, in all layers, fit into half of the free memory.
    """
    free, weight = free_memory(input_device(model)), model.get_input_embeddings().weight
    if free is None or n_prefix == 0:
        return 0
    config = model.config.get_text_config()
    n_channels, entries = config.hidden_size, config.to_dict()
    n_heads = entries.get("num_attention_heads")
    n_key_heads = entries.get("num_key_value_heads") or n_heads
    if isinstance(n_heads, int) and isinstance(n_key_heads, int):  # not a list with each layer's
        n_channels = n_key_heads * (entries.get("head_dim") or n_channels // n_heads)
    n_bytes = 2 * config.num_hidden_layers * n_channels * n_prefix * weight.itemsize
    most_rows = max(int(free * _SHARE_OF_FREE_MEMORY / n_bytes), 1)
    return math.ceil(budget.n_tokens / most_rows)


def cpu_tokens(dtype: torch.dtype, *, has_matrix_units: bool) -> int:
    """Return how many tokens keep a CPU busy."""
    return _CPU_TOKENS_IN_TILES if has_matrix_units and dtype.itemsize == 2 else _CPU_TOKENS


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes are free on a device, or ``None`` if that is unknown.

    On CUDA, memory that torch has reserved but not used counts as free.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type == "cpu":
        return psutil.virtual_memory().available
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out. On the CPU, and in cuBLAS, that is a ``RuntimeError``."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    phrases = ("not enough memory", "out of memory", "can't allocate", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)


def is_fatal(error: BaseException) -> bool:
    """Say whether an error leaves no sense in trying something else: memory or the device fails."""
    return is_out_of_memory(error) or "CUDA error" in str(error)


def _inner_width(config: Any, hidden: int) -> int:
    """Return the width of the widest feed-forward layer, guessed if the configuration lacks it."""
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    return max(inner) if isinstance(inner, list) else inner  # a list has one entry for each layer
