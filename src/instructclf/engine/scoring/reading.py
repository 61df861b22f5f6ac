"""Texts → what the model computes at the end of their prompts, for one fitted estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from instructclf.engine.models.devices import check_not_forked
from instructclf.engine.models.placement import input_device, is_offloaded
from instructclf.engine.running.locks import offloaded_weights
from instructclf.engine.running.processes import current_processes
from instructclf.engine.running.progress import Progress
from instructclf.engine.scoring.budgets import make_budget
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.prefix_scoring import PrefixScorer
from instructclf.engine.tokens.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tokens.truncation import warn_of_cut_demonstrations, warn_of_cuts

_LARGE_CHUNK = 2048
"""Texts encoded at a time, so that memory does not grow with the number of texts."""
_N_CUTS = 2
"""What is known of a text beside its values: whether it was cut, and whether its demonstrations."""


class PromptReader:
    """Base of what reads something at the end of each prompt, each prefix computed once.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model, with an adapter or without.
    encoder : PromptEncoder
        Turns texts into prompts.
    max_batch_tokens : int or None, default=None
        How many tokens go through the model at once, padding included. ``None`` takes what suits
        the device. It decides speed and memory, not what is read.
    read : callable, default=label_log_likelihoods
        What is read of a batch, with the parameters of that function.
    """

    def __init__(
        self,
        model: Any,
        encoder: PromptEncoder,
        *,
        max_batch_tokens: int | None = None,
        read: Callable[..., Tensor] = label_log_likelihoods,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self._budget = make_budget(model, max_batch_tokens)
        self._read_batch = read
        self._turns = offloaded_weights if is_offloaded(model) else nullcontext()

    def _encode(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Return the prompts of texts."""
        return self.encoder.encode(texts)

    def _read(
        self,
        texts: Sequence[str],
        n_values: int,
        progress: Progress | None = None,
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]:
        """Return what is read of each text, of shape (n_texts, n_values). Equal ones are read once.

        Of several processes that share the work, one reads it. Warns of what had to be cut.
        """
        check_not_forked(input_device(self.model))
        different = list(dict.fromkeys(texts))
        processes = current_processes()
        processes.check_alike(different, "texts")
        values = np.zeros((len(different), n_values), dtype=dtype)
        cuts = np.zeros((len(different), _N_CUTS))
        own = processes.own_rows
        values[own], cuts[own] = self._read_different(different[own], n_values, dtype, progress)
        values, cuts = processes.sum(values).astype(dtype, copy=False), processes.sum(cuts)
        row = {text: position for position, text in enumerate(different)}
        rows = [row[text] for text in texts]
        was_cut, beside_cut = cuts[rows].T
        warn_of_cuts(np.flatnonzero(was_cut).tolist(), self.encoder.max_length)
        warn_of_cut_demonstrations(np.flatnonzero(beside_cut).tolist(), self.encoder.max_length)
        return values[rows]

    def _read_different(
        self, texts: Sequence[str], n_values: int, dtype: DTypeLike, progress: Progress | None
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return what is read of texts, and whether they and their demonstrations were cut."""
        values = np.empty((len(texts), n_values), dtype=dtype)
        cuts = np.empty((len(texts), _N_CUTS))
        with self._turns, torch.inference_mode():
            for start in range(0, len(texts), _LARGE_CHUNK):
                encoded = self._encode(texts[start : start + _LARGE_CHUNK])
                cuts[start : start + len(encoded)] = [
                    (own.was_cut, own.has_cut_demonstrations) for own in encoded
                ]
                for positions, found in self._read_encoded(encoded):
                    values[start + np.array(positions)] = found
                    if progress is not None:
                        progress.advance(len(positions))
        return values, cuts

    def _read_encoded(
        self, encoded: Sequence[EncodedPrompt]
    ) -> Iterable[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and what is read of them, batch after batch."""
        sharing: dict[int, list[int]] = {}
        for position, prompt in enumerate(encoded):
            sharing.setdefault(id(prompt.prefix), []).append(position)
        for positions in sharing.values():
            prompts = [encoded[position] for position in positions]
            for members, values in self._scorer_of(prompts).score(prompts):
                yield [positions[member] for member in members], values

    def _scorer_of(self, prompts: Sequence[EncodedPrompt]) -> PrefixScorer:
        """Return what reads prompts that share their prefix, which not all texts need share."""
        prefix, common = prompts[0].prefix, self.encoder.prefix_ids
        if prefix is common:
            return self._shared
        if len(prefix) <= len(common) or list(prefix[: len(common)]) != common:
            # The odd prompt whose text changes the tokens before it goes through whole.
            return self._plain
        # Beyond a limit strategies are tried anew, which costs more than a few prompts save.
        if any(self._shared.regime(prompt) for prompt in prompts):
            return self._shared
        return PrefixScorer(self.model, prefix, self._budget, self._read_batch)

    @cached_property
    def _shared(self) -> PrefixScorer:
        """What reads prompts after the tokens that the prompts of all texts begin with."""
        return PrefixScorer(self.model, self.encoder.prefix_ids, self._budget, self._read_batch)

    @cached_property
    def _plain(self) -> PrefixScorer:
        return PrefixScorer(self.model, None, self._budget, self._read_batch)
