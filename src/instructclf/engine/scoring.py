"""Texts → label log-likelihoods, for one fitted classifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.batching import run_in_batches
from instructclf.engine.budgets import make_budget
from instructclf.engine.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.forward import label_log_likelihoods
from instructclf.engine.prefixes import Prefix
from instructclf.engine.progress import Progress
from instructclf.engine.strategies import PLAIN, Strategies, Strategy
from instructclf.engine.truncation import warn_of_cuts
from instructclf.engine.verbalizers import Verbalizer
from instructclf.exceptions import ScoringError

_LARGE_CHUNK = 2048
"""Texts encoded at a time, so that memory does not grow with the number of texts."""


class LabelScorer:
    """Score the labels after the prompts of one fitted classifier.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model, with an adapter or without.
    encoder : PromptEncoder
        Turns texts into prompts.
    max_batch_tokens : int or None, default=None
        How many tokens go through the model at once, padding included. ``None`` takes what suits
        the device. It decides speed and memory, not scores.
    """

    def __init__(
        self, model: Any, encoder: PromptEncoder, *, max_batch_tokens: int | None = None
    ) -> None:
        self.model = model
        self.encoder = encoder
        self._budget = make_budget(model, max_batch_tokens)
        self._prefixes: dict[type[Prefix], Prefix] = {}

    def score(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        """Return ``log p(label | prompt)`` of each text and label: of any of its answers.

        Parameters
        ----------
        texts : sequence of str
            The texts. Equal ones go through the model once.
        progress : Progress or None, default=None
            Told about each text that is done.

        Returns
        -------
        ndarray of shape (n_texts, n_labels)
            Log-likelihoods.

        Raises
        ------
        ScoringError
            If a log-likelihood is not a number.

        Warns
        -----
        TruncationWarning
            If texts had to be cut: how many, and which.
        """
        different = list(dict.fromkeys(texts))
        scores = np.empty((len(different), len(self._verbalizer.classes)), dtype=np.float64)
        cut: set[str] = set()
        with torch.inference_mode():
            for start in range(0, len(different), _LARGE_CHUNK):
                chunk = different[start : start + _LARGE_CHUNK]
                encoded = self.encoder.encode(chunk)
                cut |= {text for text, own in zip(chunk, encoded, strict=True) if own.was_cut}
                for positions, values in self._score_encoded(encoded):
                    scores[start + np.array(positions)] = self._verbalizer.sum_answers(values)
                    if progress is not None:
                        progress.advance(len(positions))
        warn_of_cuts([i for i, text in enumerate(texts) if text in cut], self.encoder.max_length)
        _check_finite(scores, different)
        row = {text: position for position, text in enumerate(different)}
        return scores[[row[text] for text in texts]]

    def score_demonstrations(self) -> NDArray[np.float64]:
        """Score each demonstration after a prompt that holds all the others.

        Returns
        -------
        ndarray of shape (n_demonstrations, n_labels)
            Log-likelihoods.
        """
        prompt = self.encoder.prompt
        solved = prompt.demonstrations
        scores = np.empty((len(solved), len(self._verbalizer.answers)), dtype=np.float64)
        with torch.inference_mode():
            for left_out, (text, _) in enumerate(solved):
                others = prompt.with_demonstrations(solved[:left_out] + solved[left_out + 1 :])
                encoded = self.encoder.encode_variant(others, text)
                scores[left_out] = self._score_variant(encoded)
        return self._verbalizer.sum_answers(scores)

    def _score_variant(self, encoded: EncodedPrompt) -> NDArray[np.float64]:
        """Score a prompt that shares only a part of the prefix, if it can be shared in parts."""
        strategy = self._strategies.choose(encoded) if encoded.prefix else PLAIN
        prefix = self._prefix(strategy)
        part = None if prefix is None else prefix.first(len(encoded.prefix))
        if part is None:
            strategy = PLAIN
        return _to_numpy(label_log_likelihoods(self.model, [encoded], strategy.layout, part))[0]

    def _score_encoded(
        self, encoded: Sequence[EncodedPrompt]
    ) -> Iterable[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and their scores, batch after batch."""
        for (strategy, _), positions in self._group(encoded).items():
            yield from self._score_group(encoded, positions, strategy)

    def _score_group(
        self, encoded: Sequence[EncodedPrompt], positions: list[int], strategy: Strategy
    ) -> Iterable[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and their scores, of prompts that go through the model in one way."""
        prefix = self._prefix(strategy)

        def score(members: list[int]) -> NDArray[np.float64]:
            batch = [encoded[positions[member]] for member in members]
            return _to_numpy(label_log_likelihoods(self.model, batch, strategy.layout, prefix))

        n_prefix = 0 if prefix is None else prefix.length
        lengths = [self._cost(encoded[i], strategy, n_prefix) for i in positions]
        for members, values in run_in_batches(lengths, self._budget, score):
            yield [positions[member] for member in members], values

    def _group(self, encoded: Sequence[EncodedPrompt]) -> dict[tuple[Strategy, int], list[int]]:
        """Return the positions of prompts that may share a batch, for each strategy and regime."""
        shared = self.encoder.prefix_ids
        groups: dict[tuple[Strategy, int], list[int]] = {}
        for position, prompt in enumerate(encoded):
            # The odd prompt whose text changes the tokens before it goes through whole.
            is_odd = prompt.prefix is not shared
            strategy = PLAIN if is_odd else self._strategies.choose(prompt)
            groups.setdefault((strategy, self._strategies.regime(prompt)), []).append(position)
        return groups

    @staticmethod
    def _cost(prompt: EncodedPrompt, strategy: Strategy, n_prefix: int) -> int:
        """Return how many tokens a prompt sends through the model."""
        own = prompt.n_tokens - n_prefix
        if strategy is PLAIN:
            return own * len(prompt.trie.paths)
        return own + len(prompt.trie.tokens) - 1

    @property
    def _verbalizer(self) -> Verbalizer:
        return self.encoder.verbalizer

    @cached_property
    def _strategies(self) -> Strategies:
        return Strategies(self.model, n_prefix=len(self.encoder.prefix_ids))

    def _prefix(self, strategy: Strategy) -> Prefix | None:
        """Return the prefix as a strategy shares it, computed at its first use."""
        kind = strategy.prefix
        if kind is not None and kind not in self._prefixes:
            self._prefixes[kind] = kind(self.model, self.encoder.prefix_ids)
        return None if kind is None else self._prefixes[kind]


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    return values.cpu().double().numpy()


def _check_finite(scores: NDArray[np.float64], texts: Sequence[str]) -> None:
    if np.isfinite(scores).all():
        return
    row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
    msg = (
        f"The model returned a log-likelihood of {scores[row].min()} for the text "
        f"{texts[row][:60]!r}. "
        "Half precision may have overflowed: try dtype='float32' or dtype='bfloat16'."
    )
    raise ScoringError(msg)
