"""Texts → what a model computes at the ends of their prompts, for one fitted estimator.

``PromptReader`` encodes texts and groups prompts by their prefix. ``PrefixReader`` sends prompts
with the same prefix through the model, each batch with the fastest strategy that is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from instructclf.engine.models.devices import check_not_forked
from instructclf.engine.models.placement import fetch, input_device, is_offloaded
from instructclf.engine.running.locks import ProcessLock, offloaded_weights
from instructclf.engine.running.memory import give_back_free_memory
from instructclf.engine.running.processes import Processes, current_processes
from instructclf.engine.running.progress import Progress
from instructclf.engine.running.torch_state import own_torch_state
from instructclf.engine.running.weight_changes import WeightsAsTheyWere
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.batching import (
    BatchReader,
    Read,
    count_computed_tokens,
    queue_batches,
    read_behind,
)
from instructclf.engine.scoring.budgets import TokenBudget, make_budget, tokens_of_a_copy
from instructclf.engine.scoring.forward import edge_log_likelihoods, label_log_likelihoods
from instructclf.engine.scoring.prefixes import CHUNK, Prefix
from instructclf.engine.scoring.strategies import FULL_PROMPTS, Strategies, Strategy
from instructclf.engine.tokens.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tokens.side_by_side import SideBySide
from instructclf.engine.tokens.truncation import warn_of_cut_demonstrations, warn_of_cuts
from instructclf.exceptions import ScoringError

Encode = Callable[[Sequence[str]], list[EncodedPrompt]]

_CHUNK = 2048
"""How many texts are encoded at once, so that memory does not grow with the number of texts."""
_N_BEHIND = 1
"""How many later batches a CUDA device is given before the values of one are read."""
_N_CUTS = 2
"""Columns that say whether a text was cut, and whether its demonstrations were."""


class PrefixReader:
    """Read something at the ends of prompts that begin with the same tokens.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model, with an adapter or without.
    ids : sequence of int or None
        The tokens that the prompts begin with, computed once. ``None`` sends full prompts through
        the model.
    budget : TokenBudget
        How many tokens go through the model at once.
    read : callable, default=label_log_likelihoods
        What to read of a batch: a function with the parameters of the default.
    side_by_side : SideBySide or None, default=None
        What the model reads side by side in place of a stretch of ``ids``, which only
        `PrefixAttention` can do.
    """

    def __init__(
        self,
        model: Any,
        ids: Sequence[int] | None,
        budget: TokenBudget,
        read: Callable[..., Tensor] = label_log_likelihoods,
        side_by_side: SideBySide | None = None,
    ) -> None:
        self._model = model
        self._ids = list(ids or ())
        self._budget = budget
        self._read_batch = read
        self._side_by_side = side_by_side
        self._strategies = Strategies(model, n_prefix=None if ids is None else len(ids))
        self._prefixes: dict[type[Prefix], Prefix] = {}
        self._weights: WeightsAsTheyWere | None = None
        self._preparing = ProcessLock()

    def queue(self, encoded: Sequence[EncodedPrompt]) -> Iterable[tuple[list[int], Read]]:
        """Give one batch after the other to the device. Yield positions and what reads them."""
        with self._preparing:  # the first thread tries strategies and computes the prefix for all
            groups = [
                (positions, strategy, self._prefix_of(strategy))
                for (strategy, _), positions in self._strategies.group(encoded).items()
            ]
        for positions, strategy, prefix in groups:
            yield from self._queue_group(encoded, positions, strategy, prefix)

    def score_edges(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the log-likelihood of each edge of a prompt's trie, of shape (n_edges,)."""
        strategy, prefix = self.prepare(prompt)
        return fetch(edge_log_likelihoods(self._model, prompt, strategy.layout, prefix))()

    def score_after_part(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the scores of a prompt that begins with only a part of the prefix, (n_labels,)."""
        strategy, prefix = self.prepare(prompt) if prompt.prefix else (FULL_PROMPTS, None)
        # What is longer than a chunk continues the prefix, so that it goes in by chunks as well.
        n_more = (len(prompt.tail) - 1) // CHUNK * CHUNK
        shared, more = [*prompt.prefix], prompt.tail[:n_more]
        part = None if prefix is None else prefix.branch(self._model, len(shared), more)
        if part is None:
            scores = label_log_likelihoods(self._model, [prompt], FULL_PROMPTS.layout)
        else:
            rest = EncodedPrompt(prompt.tail[n_more:], prompt.trie, [*shared, *more])
            scores = label_log_likelihoods(self._model, [rest], strategy.layout, part)
        return fetch(scores)()[0]

    def n_shared(self, prompt: EncodedPrompt) -> int:
        """Return how many first tokens of a prompt are computed once for several texts."""
        _, prefix = self.prepare(prompt)
        return 0 if prefix is None else prefix.length

    def prepare(self, prompt: EncodedPrompt) -> tuple[Strategy, Prefix | None]:
        """Return the strategy for a prompt, and the prefix that it shares with others."""
        with self._preparing:
            strategy = self._strategies.choose(prompt)
            return strategy, self._prefix_of(strategy)

    def _prefix_of(self, strategy: Strategy) -> Prefix | None:
        """Return the prefix in the form that a strategy shares, of the weights as they are."""
        kind = strategy.prefix
        if self._side_by_side is not None and kind is not PrefixAttention:
            _refuse_side_by_side(self._model)
        if kind is None:
            return None
        if self._weights is None or self._weights.have_changed():
            self._weights = WeightsAsTheyWere(self._model)
            self._prefixes.clear()
        if kind not in self._prefixes:
            self._prefixes[kind] = self._compute_prefix(kind)
        return self._prefixes[kind]

    def _compute_prefix(self, kind: type[Prefix]) -> Prefix:
        if self._side_by_side is None:
            return kind(self._model, self._ids)
        return PrefixAttention(self._model, self._ids, self._side_by_side)

    def _queue_group(
        self,
        encoded: Sequence[EncodedPrompt],
        positions: list[int],
        strategy: Strategy,
        prefix: Prefix | None,
    ) -> Iterable[tuple[list[int], Read]]:
        """Queue prompts that may share a batch. Yield positions and what reads them."""
        prompts = [encoded[position] for position in positions]
        n_shared = 0 if prefix is None else prefix.length
        lengths = count_computed_tokens(prompts, n_shared, repeats_text=strategy is FULL_PROMPTS)
        if prefix is not None and prefix.is_in_mask:
            least = tokens_of_a_copy(self._model, self._budget, prefix.length)
            lengths = [max(length, least) for length in lengths]

        def queue(members: list[int]) -> Read:
            batch = [prompts[member] for member in members]
            return fetch(self._read_batch(self._model, batch, strategy.layout, prefix))

        for members, read in queue_batches(lengths, self._budget, queue):
            yield [positions[member] for member in members], read


class PromptReader:
    """Base class that reads something at the end of each prompt and computes each prefix once.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model, with an adapter or without.
    encoder : PromptEncoder
        Turns texts into prompts.
    max_batch_tokens : int or None, default=None
        How many tokens go through the model at once, padding included. ``None`` takes a number that
        suits the device. This changes speed and memory, not what is read.
    read : callable, default=label_log_likelihoods
        What to read of a batch: a function with the parameters of the default.
    whole : callable, default=None
        Makes the reader of a model that reads each prompt as a whole, from the model and a budget.
        With ``None``, prompts share their prefix.
    """

    def __init__(
        self,
        model: Any,
        encoder: PromptEncoder,
        *,
        max_batch_tokens: int | None = None,
        read: Callable[..., Tensor] = label_log_likelihoods,
        whole: Callable[[Any, TokenBudget], BatchReader] | None = None,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self._device = input_device(model)
        self._budget = make_budget(model, max_batch_tokens)
        self._read_batch = read
        self._whole = None if whole is None else whole(model, self._budget)
        self._waiting = offloaded_weights if is_offloaded(model) else nullcontext()

    @property
    @contextmanager
    def _turns(self) -> Iterator[None]:
        """Wait for threads that run the same offloaded weights, and set the state of inference."""
        with self._waiting, own_torch_state(inference=True):
            yield

    def _encode(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Return the prompts of texts."""
        return self.encoder.encode(texts)

    def _read(
        self,
        texts: Sequence[str],
        n_values: int,
        progress: Progress | None = None,
        dtype: DTypeLike = np.float64,
        encode: Encode | None = None,
    ) -> NDArray[Any]:
        """Return what is read of each text, of shape (n_texts, n_values). Warn of cuts.

        Equal texts are read once, and if several processes share the work, by one of them.
        ``encode`` takes the place of `_encode`.
        """
        if self._device.type == "cuda":
            check_not_forked(self._device)
        different = list(dict.fromkeys(texts))
        read = partial(self._read_different, encode or self._encode, n_values, dtype, progress)
        processes = current_processes()
        if processes.size == 1:
            values, cuts = read(different)
        else:
            values, cuts = _read_share(processes, different, read)
        row = {text: position for position, text in enumerate(different)}
        rows = [row[text] for text in texts]
        if cuts.any():
            was_cut, has_cut_demonstrations = (np.flatnonzero(c).tolist() for c in cuts[rows].T)
            warn_of_cuts(was_cut, self.encoder.limit)
            warn_of_cut_demonstrations(has_cut_demonstrations, self.encoder.limit)
        return values[rows]

    def _read_different(
        self,
        encode: Encode,
        n_values: int,
        dtype: DTypeLike,
        progress: Progress | None,
        texts: Sequence[str],
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return what is read of texts, and whether they and their demonstrations were cut."""
        values = np.empty((len(texts), n_values), dtype=dtype)
        cuts = np.empty((len(texts), _N_CUTS))
        n_behind = _N_BEHIND if self._device.type == "cuda" else 0
        with self._turns:
            for positions, found in read_behind(self._queue_texts(texts, cuts, encode), n_behind):
                values[positions] = found
                if progress is not None:
                    progress.advance(len(positions))
        return values, cuts

    def _queue_texts(
        self, texts: Sequence[str], cuts: NDArray[np.float64], encode: Encode
    ) -> Iterator[tuple[NDArray[np.intp], Read]]:
        """Encode and queue texts. Yield positions and what reads them, and note which were cut."""
        for start in range(0, len(texts), _CHUNK):
            encoded = encode(texts[start : start + _CHUNK])
            end = start + len(encoded)
            cuts[start:end] = [(each.was_cut, each.has_cut_demonstrations) for each in encoded]
            for positions, read in self._queue_encoded(encoded):
                yield start + np.array(positions), read
            if end < len(texts):
                give_back_free_memory()  # it would grow with the number of texts

    def _queue_encoded(self, encoded: Sequence[EncodedPrompt]) -> Iterable[tuple[list[int], Read]]:
        """Queue prompts batch after batch. Yield positions and what reads them."""
        if self._whole is not None:
            yield from self._whole.queue(encoded)
            return
        sharing: dict[int, list[int]] = {}
        for position, prompt in enumerate(encoded):
            sharing.setdefault(id(prompt.prefix), []).append(position)
        for positions in sharing.values():
            prompts = [encoded[position] for position in positions]
            for members, read in self._reader_of(prompts).queue(prompts):
                yield [positions[member] for member in members], read

    def _reader_of(self, prompts: Sequence[EncodedPrompt]) -> BatchReader:
        """Return the reader for prompts with the same prefix, which need not be that of others."""
        prefix, common = prompts[0].prefix, self.encoder.prefix_ids
        if prefix is common or self._whole is not None:
            return self._shared
        if len(prefix) <= len(common) or list(prefix[: len(common)]) != common:
            # A rare text changes the tokens before it. Its prompt goes through the model whole.
            return self._full
        # These prompts share more than the common prefix, such as equal demonstrations.
        return self._make_reader(prefix)

    @cached_property
    def _shared(self) -> BatchReader:
        """The reader of prompts that begin with the tokens that the prompts of all texts share."""
        if self._whole is not None:
            return self._whole
        return self._make_reader(self.encoder.prefix_ids)

    @cached_property
    def _full(self) -> PrefixReader:
        """The reader of full prompts: whole, or after labels that are read side by side."""
        listed = self.encoder.side_by_side
        return self._make_reader(listed and self.encoder.prefix_ids[: listed.stop])

    def _make_reader(self, prefix: Sequence[int] | None) -> PrefixReader:
        listed = self.encoder.side_by_side
        return PrefixReader(self.model, prefix, self._budget, self._read_batch, listed)


def _refuse_side_by_side(model: Any) -> NoReturn:
    msg = (
        f"{type(model).__name__} cannot read labels side by side (label_order='unordered'): that "
        "takes a decoder whose attention and positions can be set for each token. Use "
        "label_order='cyclic' with several seeds."
    )
    raise ScoringError(msg)


def _read_share(
    processes: Processes,
    texts: Sequence[str],
    read: Callable[[Sequence[str]], tuple[NDArray[Any], NDArray[np.float64]]],
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Read this process's share of the texts, and return what all processes have read."""
    processes.check_alike(texts, "texts")
    rows = processes.local_rows
    own_values, own_cuts = read(texts[rows])
    values = np.zeros((len(texts), own_values.shape[1]), dtype=own_values.dtype)
    cuts = np.zeros((len(texts), _N_CUTS))
    values[rows], cuts[rows] = own_values, own_cuts
    return processes.sum(values).astype(own_values.dtype, copy=False), processes.sum(cuts)
