"""Prompts and labels of encoder-decoder models → label log-likelihoods.

The encoder reads each prompt once, with its padding masked. It reads in both directions, so prompts
that begin alike share no computation. The decoder then produces the labels after its start token.
Each path of the labels' trie is one row of the decoder, padded on the right, where causal attention
never looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.models.placement import input_device
from instructclf.engine.models.quantization import compute_dtype
from instructclf.engine.scoring.batching import run_in_batches
from instructclf.engine.scoring.budgets import TokenBudget, is_fatal
from instructclf.engine.scoring.probes import FAILURES
from instructclf.engine.scoring.vocabulary import sum_dtype
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import LabelTrie
from instructclf.exceptions import ScoringError

_LONGEST_TEXT = 300
_FEWEST_TO_TRY = 8
"""How many prompts must wait before trying whether they can share a batch is worth its time."""
_TOLERANCE, _TOLERANCE_HALF = 1e-3, 0.1
"""How much equal distributions differ by rounding, as a share of the log-probabilities' spread."""


def find_decoder_start(model: Any, label: Sequence[int], n_before: int) -> list[int]:
    """Return the tokens after which a decoder produces a label: its start token, and its frame.

    ``label`` has the tokens of any label as the tokenizer frames it, ``n_before`` of them before
    the label itself. The model shifts them as it does in training.

    Raises
    ------
    ScoringError
        If the model does not say with which token its decoder starts.
    """
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        start = getattr(model.config, "decoder_start_token_id", None)
        shifted = None if start is None else [start, *label]
    else:
        try:
            shifted = shift(labels=torch.tensor([label], device=input_device(model)))[0].tolist()
        except (ValueError, TypeError, AttributeError):  # it lacks a token that the shift needs
            shifted = None
    if shifted is None:
        msg = (
            f"The {type(model).__name__} does not say with which token its decoder starts. Set "
            "decoder_start_token_id and pad_token_id in its config.json, or in model.config of a "
            "loaded model, as they were in training."
        )
        raise ScoringError(msg)
    return shifted[: n_before + 1]


class EncoderDecoderReader:
    """Read the log-likelihoods of labels with an encoder-decoder model.

    Some architectures read a prompt differently next to others, in spite of the mask. So the first
    batch of each range of lengths is compared with a prompt that goes through the model alone.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model.
    start : sequence of int
        The decoder's tokens before each label.
    budget : TokenBudget
        How many tokens go through the model at once.
    """

    def __init__(self, model: Any, start: Sequence[int], budget: TokenBudget) -> None:
        self._model = model
        self._start = list(start)
        self._budget = budget
        self._name = type(model).__name__
        self._is_checked = False
        self._may_share_batch: dict[int, bool] = {}

    def read(
        self, encoded: Sequence[EncodedPrompt]
    ) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and scores of the labels, (n_positions, n_labels), batch after batch.

        Raises
        ------
        ScoringError
            If tokens change the decoder's scores of those before them.
        """
        ranges: dict[int, list[int]] = {}
        for position, prompt in enumerate(encoded):
            ranges.setdefault(prompt.n_tokens.bit_length(), []).append(position)
        for positions in ranges.values():
            prompts = [encoded[position] for position in positions]
            budget = self._budget if self._can_batch(prompts) else TokenBudget(1)

            def score(members: list[int], prompts: list[EncodedPrompt] = prompts) -> Any:
                batch = [prompts[member] for member in members]
                return _sum_edges(self._read_edges(batch), batch[0].trie)

            lengths = [prompt.n_tokens for prompt in prompts]
            for members, scores in run_in_batches(lengths, budget, score):
                yield [positions[member] for member in members], scores

    def score_edges(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the log-likelihood of each edge of a prompt's trie, of shape (n_edges,)."""
        return _to_numpy(self._read_edges([prompt])[0])

    def score_after_part(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the scores of a prompt, of shape (n_labels,)."""
        return _sum_edges(self._read_edges([prompt]), prompt.trie)[0]

    def n_shared(self, prompt: EncodedPrompt) -> int:  # noqa: ARG002  (the same for all prompts)
        """Return how many tokens of a prompt are computed once for several texts: none."""
        return 0

    def _can_batch(self, prompts: Sequence[EncodedPrompt]) -> bool:
        """Say whether prompts of about this length may share a batch. The first ones are tried."""
        length = prompts[0].n_tokens.bit_length()
        if length not in self._may_share_batch:
            if len(prompts) < _FEWEST_TO_TRY:
                return False
            by_length = sorted(prompts, key=lambda prompt: prompt.n_tokens)
            shortest, longest = by_length[0], by_length[-1]
            alone = self._read_nodes([shortest])
            found = self._read_nodes([shortest, longest])[:, :1]
            self._may_share_batch[length] = self._are_equal(found, alone)
        return self._may_share_batch[length]

    def _are_equal(self, found: Tensor, expected: Tensor) -> bool:
        """Say whether distributions over the vocabulary differ by no more than rounding."""
        change = (found - expected).square().mean().sqrt() / expected.std()
        is_half = compute_dtype(self._model).itemsize == 2
        return bool(change <= (_TOLERANCE_HALF if is_half else _TOLERANCE))

    def _run_first(self, step: Callable[..., Any], *inputs: Any) -> Any:
        """Take a step with the model. Until one has succeeded, a model may raise anything."""
        try:
            return step(*inputs)
        except FAILURES as error:
            if self._is_checked or isinstance(error, ScoringError) or is_fatal(error):
                raise
            said = " ".join(str(error).split())[:_LONGEST_TEXT]
            msg = (
                f"{self._name} cannot score labels: its encoder does not take token ids alone, or "
                f"its decoder does not take what the encoder returns. It said: {said}"
            )
            raise ScoringError(msg) from error

    def _check_causal(self, states: Any, mask: Tensor) -> None:
        """Raise if the scores after the start change with the tokens that follow.

        The first prompt of a batch is enough.
        """
        states, mask = type(states)(last_hidden_state=states.last_hidden_state[:1]), mask[:1]
        one = self._decode([[]], states, mask)[:, :, 0]
        for token in self._start[:1], self._start[:1] * 2:
            other = self._decode([token], states, mask)[:, :, 0]
            if not self._are_equal(other, one):
                msg = (
                    f"Scores of {self._name} change with the tokens that come after them, so it "
                    "cannot score labels. Use a model of another family."
                )
                raise ScoringError(msg)

    def _read_edges(self, batch: Sequence[EncodedPrompt]) -> Tensor:
        """Return the log-probability of each edge, of shape (n_texts, n_edges)."""
        nodes = self._read_nodes(batch)
        edges = torch.tensor(batch[0].trie.edges, device=nodes.device)
        return nodes[edges[:, 1], :, edges[:, 2]].T

    def _read_nodes(self, batch: Sequence[EncodedPrompt]) -> Tensor:
        """Return log-probabilities after each node, of shape (n_nodes, n_texts, n_vocabulary)."""
        trie = batch[0].trie  # a decoder of its own produces the same tokens after all prompts
        states, mask = self._run_first(self._encode, batch)
        if not self._is_checked:
            self._run_first(self._check_causal, states, mask)
            self._is_checked = True
        n_at_once = max(1, self._budget.n_tokens // mask.numel())
        found: dict[int, Tensor] = {}
        for first in range(0, len(trie.paths), n_at_once):
            paths = trie.paths[first : first + n_at_once]
            tokens = [[trie.tokens[node] for node in path] for path in paths]
            for path, read in zip(paths, self._decode(tokens, states, mask), strict=True):
                # Paths have their first nodes in common. Any of the copies will do.
                found |= dict(zip((0, *path), read.unbind(dim=1), strict=False))
        return torch.stack([found[node] for node in range(len(trie.tokens))])

    def _encode(self, batch: Sequence[EncodedPrompt]) -> tuple[Any, Tensor]:
        """Return what the encoder makes of prompts, and the mask of their tokens."""
        # Some architectures count positions by the tokens that are not padding.
        padding = getattr(self._model.config, "pad_token_id", None) or 0
        rows = [torch.tensor(prompt.ids) for prompt in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()
        device = input_device(self._model)
        ids, mask = ids.to(device), mask.to(device)
        encoder = self._model.get_encoder()
        return encoder(input_ids=ids, attention_mask=mask, return_dict=True), mask

    def _decode(self, paths: Sequence[Sequence[int]], states: Any, mask: Tensor) -> Tensor:
        """Return log-probabilities after the start and after each token of some paths.

        Their shape is (n_paths, n_texts, longest path + 1, n_vocabulary).
        """
        n_texts, n_paths = len(mask), len(paths)
        longest = max(map(len, paths))
        rows = [[*self._start, *path, *[0] * (longest - len(path))] for path in paths]
        ids = torch.tensor(rows, device=mask.device).repeat_interleave(n_texts, dim=0)
        hidden = states.last_hidden_state.repeat(n_paths, 1, 1)
        output = self._model(
            encoder_outputs=type(states)(last_hidden_state=hidden),
            attention_mask=mask.repeat(n_paths, 1),
            decoder_input_ids=ids,
            use_cache=False,
            return_dict=True,
        )
        logits = output.logits[:, len(self._start) - 1 :]
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return wide.log_softmax(dim=-1).unflatten(0, (n_paths, n_texts))


def _sum_edges(edges: Tensor, trie: LabelTrie) -> NDArray[np.float64]:
    """Return the sum over the tokens of each label, of shape (n_texts, n_labels)."""
    # float64 keeps the sums of long labels from collecting rounding errors.
    edges = edges.to(sum_dtype(edges.device))
    label = torch.tensor([label for label, _, _ in trie.edges], device=edges.device)
    return _to_numpy(edges.new_zeros(len(edges), trie.n_labels).index_add(1, label, edges))


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    return values.cpu().double().numpy()
