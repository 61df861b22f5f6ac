"""Prefix tokens → keys and values, computed once and read by every row."""

from __future__ import annotations

import copy
from typing import Any

import torch

from instructclf.exceptions import ScoringError

_CHUNK = 512
"""Tokens. A prefix goes in by chunks, so that its activations never outgrow those of a batch."""


class PrefixCache:
    """The keys and values of a prefix, for one model.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model keeps something else than keys and values of past tokens, such as the state of
        a recurrence, which rows cannot share.
    """

    def __init__(self, model: Any, ids: list[int]) -> None:
        self.length = len(ids)
        device = model.get_input_embeddings().weight.device
        cache: Any = None
        for start in range(0, len(ids), _CHUNK):
            chunk = torch.tensor([ids[start : start + _CHUNK]], device=device)
            output = model(input_ids=chunk, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
        self._cache = cache
        _check_keys_and_values(cache)

    def for_rows(self, n_rows: int) -> Any:
        """Return a cache of ``n_rows`` equal rows that a forward pass may append to.

        The rows are views of the one prefix: appending makes new tensors and leaves it as it is.
        """
        rows = copy.copy(self._cache)
        rows.layers = [_repeat(layer, n_rows) for layer in self._cache.layers]
        return rows


def _repeat(layer: Any, n_rows: int) -> Any:
    repeated = copy.copy(layer)
    repeated.keys = layer.keys.expand(n_rows, -1, -1, -1)
    repeated.values = layer.values.expand(n_rows, -1, -1, -1)
    return repeated


def _check_keys_and_values(cache: Any) -> None:
    for layer in getattr(cache, "layers", None) or [cache]:
        held = {name for name, value in vars(layer).items() if isinstance(value, torch.Tensor)}
        if {name for name in held if not name.startswith("_")} != {"keys", "values"}:
            kind = type(layer).__name__
            msg = (
                f"A prefix cannot be shared through {kind}, which holds other than keys and values."
            )
            raise ScoringError(msg)
