"""Texts → label log-likelihoods, for one fitted classifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from instructclf.engine.budgets import make_budget
from instructclf.engine.devices import check_not_forked
from instructclf.engine.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.locks import offloaded_weights
from instructclf.engine.placement import input_device, is_offloaded
from instructclf.engine.prefix_scoring import PrefixScorer
from instructclf.engine.processes import current_processes
from instructclf.engine.progress import Progress
from instructclf.engine.truncation import warn_of_cut_demonstrations, warn_of_cuts
from instructclf.engine.verbalizers import Verbalizer
from instructclf.exceptions import ScoringError

_LARGE_CHUNK = 2048
"""Texts encoded at a time, so that memory does not grow with the number of texts."""
_N_CUTS = 2
"""What is known of a text beside its scores: whether it was cut, and whether its demonstrations."""


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What the labels of one text are scored by, token by token.

    Parameters
    ----------
    prompt : EncodedPrompt
        The prompt, and the trie of the labels' tokens after it.
    log_likelihoods : ndarray of shape (n_edges,)
        ``log p(token | prompt and label so far)``, in the order of the trie's edges.
    n_shared : int
        How many first tokens of the prompt were computed once for several texts.
    """

    prompt: EncodedPrompt
    log_likelihoods: NDArray[np.float64]
    n_shared: int


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
        self._turns = offloaded_weights if is_offloaded(model) else nullcontext()

    def score(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        """Return ``log p(label | prompt)`` of each text and label: of any of its answers.

        Parameters
        ----------
        texts : sequence of str
            The texts. Equal ones go through the model once, and of several processes that share
            the work, through one of them.
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
            If texts, or demonstrations that only one text has, had to be cut: how many, and which.
        """
        check_not_forked(input_device(self.model))
        different = list(dict.fromkeys(texts))
        processes = current_processes()
        processes.check_alike(different, "texts")
        found = np.zeros((len(different), _N_CUTS + len(self._verbalizer.classes)))
        found[processes.own_rows] = self._score_different(different[processes.own_rows], progress)
        found = processes.sum(found)
        scores = found[:, _N_CUTS:]
        _check_finite(scores, different)
        row = {text: position for position, text in enumerate(different)}
        rows = [row[text] for text in texts]
        was_cut, beside_cut = found[rows, :_N_CUTS].T
        warn_of_cuts(np.flatnonzero(was_cut).tolist(), self.encoder.max_length)
        warn_of_cut_demonstrations(np.flatnonzero(beside_cut).tolist(), self.encoder.max_length)
        return scores[rows]

    def _score_different(
        self, texts: Sequence[str], progress: Progress | None
    ) -> NDArray[np.float64]:
        """Return for each text whether it and its demonstrations were cut, and then its scores."""
        found = np.empty((len(texts), _N_CUTS + len(self._verbalizer.classes)))
        with self._turns, torch.inference_mode():
            for start in range(0, len(texts), _LARGE_CHUNK):
                encoded = self.encoder.encode(texts[start : start + _LARGE_CHUNK])
                found[start : start + len(encoded), :_N_CUTS] = [
                    (own.was_cut, own.has_cut_demonstrations) for own in encoded
                ]
                for positions, values in self._score_encoded(encoded):
                    rows = start + np.array(positions)
                    found[rows, _N_CUTS:] = self._verbalizer.sum_answers(values)
                    if progress is not None:
                        progress.advance(len(positions))
        return found

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
        with self._turns, torch.inference_mode():
            for left_out, (text, _) in enumerate(solved):
                others = prompt.with_demonstrations(solved[:left_out] + solved[left_out + 1 :])
                (encoded,) = self.encoder.encode_variants([others], [text])
                scores[left_out] = self._shared.score_part(encoded)
        return self._verbalizer.sum_answers(scores)

    def score_tokens(self, text: str) -> TokenScores:
        """Score each token of each label: what ``score`` sums.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        TokenScores
            The scores.
        """
        with self._turns, torch.inference_mode():
            (encoded,) = self.encoder.encode([text])
            scorer = self._scorer_of([encoded])
            values = scorer.score_edges(encoded)
            return TokenScores(encoded, values, scorer.n_shared(encoded))

    def _score_encoded(
        self, encoded: Sequence[EncodedPrompt]
    ) -> Iterable[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and their scores, batch after batch."""
        sharing: dict[int, list[int]] = {}
        for position, prompt in enumerate(encoded):
            sharing.setdefault(id(prompt.prefix), []).append(position)
        for positions in sharing.values():
            prompts = [encoded[position] for position in positions]
            for members, values in self._scorer_of(prompts).score(prompts):
                yield [positions[member] for member in members], values

    def _scorer_of(self, prompts: Sequence[EncodedPrompt]) -> PrefixScorer:
        """Return what scores prompts that share their prefix, which not all texts need share."""
        prefix, common = prompts[0].prefix, self.encoder.prefix_ids
        if prefix is common:
            return self._shared
        if len(prefix) <= len(common) or list(prefix[: len(common)]) != common:
            # The odd prompt whose text changes the tokens before it goes through whole.
            return self._plain
        # Beyond a limit strategies are tried anew, which costs more than a few prompts save.
        if any(self._shared.regime(prompt) for prompt in prompts):
            return self._shared
        return PrefixScorer(self.model, prefix, self._budget)

    @property
    def _verbalizer(self) -> Verbalizer:
        return self.encoder.verbalizer

    @cached_property
    def _shared(self) -> PrefixScorer:
        """What scores prompts after the tokens that the prompts of all texts begin with."""
        return PrefixScorer(self.model, self.encoder.prefix_ids, self._budget)

    @cached_property
    def _plain(self) -> PrefixScorer:
        return PrefixScorer(self.model, None, self._budget)


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
