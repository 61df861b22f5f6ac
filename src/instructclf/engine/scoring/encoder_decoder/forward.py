"""Encoded prompts → label log-likelihoods of one batch, from an encoder and a decoder.

The encoder reads each prompt once, with its padding masked. It reads in both directions, so prompts
that begin alike share no computation. The decoder then produces the labels after its start token.
Each path of the labels' trie is one row of the decoder, padded on the right, where causal attention
never looks. Prediction and training both read their scores here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from instructclf.engine.models.placement import input_device
from instructclf.engine.models.quantization import compute_dtype
from instructclf.engine.scoring.budgets import is_fatal
from instructclf.engine.scoring.outputs import output_at
from instructclf.engine.scoring.probes import FAILURES
from instructclf.engine.scoring.vocabulary import sum_dtype
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.exceptions import ScoringError

_LONGEST_TEXT = 300
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


class _Read(NamedTuple):
    """What the encoder makes of a batch of prompts."""

    states: Any
    """The output of the encoder."""
    mask: Tensor
    """1 for the tokens of a prompt and 0 for padding, of shape (n_texts, length)."""


class _Row(NamedTuple):
    """A row of the decoder."""

    text: int
    """The position of its prompt in the batch."""
    tokens: list[int]
    """What comes after the start."""


class EncoderDecoder:
    """A model whose encoder reads prompts and whose decoder gives the likelihood of labels.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model, with an adapter or without.
    start : sequence of int
        The decoder's tokens before each label.
    """

    def __init__(self, model: Any, start: Sequence[int]) -> None:
        self.model = model
        self._start = list(start)
        self._name = type(model).__name__
        self._is_checked = False
        self._may_share_batch: dict[int, bool] = {}

    def label_log_likelihoods(
        self, batch: Sequence[EncodedPrompt], n_tokens_at_once: int | None = None
    ) -> Tensor:
        """Return ``log p(label | prompt)``, of shape (n_texts, n_labels). Gradients reach it.

        All prompts have the same number of labels. The log-softmax over the full vocabulary is in
        float32; tokens are summed in float64 if the device has it. With ``n_tokens_at_once``, the
        decoder takes so many rows at once that their prompts have no more tokens.

        Raises
        ------
        ScoringError
            If the model cannot take prompts or labels, or if tokens change the decoder's scores of
            those before them.
        """
        edges = self.edge_log_likelihoods(batch, n_tokens_at_once)
        # float64 keeps the sums of long labels from collecting rounding errors.
        edges = edges.to(sum_dtype(edges.device))
        n_labels = batch[0].trie.n_labels
        places = [
            text * n_labels + label
            for text, prompt in enumerate(batch)
            for label, _, _ in prompt.trie.edges
        ]
        sums = edges.new_zeros(len(batch) * n_labels)
        return sums.index_add(0, torch.tensor(places, device=sums.device), edges).view(-1, n_labels)

    def edge_log_likelihoods(
        self, batch: Sequence[EncodedPrompt], n_tokens_at_once: int | None = None
    ) -> Tensor:
        """Return the log-probability of each edge of each prompt's trie, of shape (n_edges,).

        The edges of a prompt follow those of the prompt before, in the order of its trie. The
        parameters are those of `label_log_likelihoods`.
        """
        read = self._encode_and_check(batch)
        rows, positions = _lay_out(batch)
        edges = [
            (*positions[text, node], token)
            for text, prompt in enumerate(batch)
            for _, node, token in prompt.trie.edges
        ]
        length = read.mask.shape[1]
        size = max(1, n_tokens_at_once // length) if n_tokens_at_once else len(rows)
        parts, order = [], []
        for first in range(0, len(rows), size):
            chosen = [i for i, (row, _, _) in enumerate(edges) if first <= row < first + size]
            own = [(edges[i][0] - first, *edges[i][1:]) for i in chosen]
            parts.append(self._read_tokens(read, rows[first : first + size], own))
            order += chosen
        return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]

    def may_share_batch(self, prompts: Sequence[EncodedPrompt]) -> bool:
        """Say whether prompts of similar length may share a batch, from a try with two of them.

        Some architectures read a prompt differently next to others, in spite of the mask. Prompts
        are of similar length if `length_range` is the same. Each range is tried once.
        """
        length = length_range(prompts[0])
        if length not in self._may_share_batch:
            by_length = sorted(prompts, key=lambda prompt: prompt.n_tokens)
            shortest, longest = by_length[0], by_length[-1]
            alone = self._first_distributions([shortest])
            found = self._first_distributions([shortest, longest])
            self._may_share_batch[length] = self._are_equal(found, alone)
        return self._may_share_batch[length]

    def was_tried(self, prompt: EncodedPrompt) -> bool:
        """Say whether it is known if prompts of about this length may share a batch."""
        return length_range(prompt) in self._may_share_batch

    # Checks

    def _are_equal(self, found: Tensor, expected: Tensor) -> bool:
        """Say whether distributions over the vocabulary differ by no more than rounding."""
        change = (found - expected).square().mean().sqrt() / expected.std()
        is_half = compute_dtype(self.model).itemsize == 2
        return bool(change <= (_TOLERANCE_HALF if is_half else _TOLERANCE))

    def _encode_and_check(self, batch: Sequence[EncodedPrompt]) -> _Read:
        read = self._run_first(self._encode, batch)
        if not self._is_checked:
            with torch.no_grad():
                self._run_first(self._check_causal, read)
            self._is_checked = True
        return read

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

    def _check_causal(self, read: _Read) -> None:
        """Raise if the scores after the start change with the tokens that follow.

        The first prompt of a batch is enough.
        """
        first = self._start[:1]
        alone, *longer = (
            _wide(self._decode(read, [_Row(0, first * n)])[0, len(self._start) - 1])
            for n in range(3)
        )
        expected = alone.log_softmax(dim=-1)
        if not all(self._are_equal(found.log_softmax(dim=-1), expected) for found in longer):
            msg = (
                f"Scores of {self._name} change with the tokens that come after them, so it "
                "cannot score labels. Use a model of another family."
            )
            raise ScoringError(msg)

    # Forward passes

    def _first_distributions(self, batch: Sequence[EncodedPrompt]) -> Tensor:
        """Return log-probabilities after each node of the first prompt of a batch."""
        rows, positions = _lay_out(batch)
        of_first = [positions[0, node] for node in range(len(batch[0].trie.tokens))]
        logits = self._logits_at(self._encode_and_check(batch), rows, of_first)
        return _wide(logits).log_softmax(dim=-1)

    def _read_tokens(
        self, read: _Read, rows: Sequence[_Row], edges: Sequence[tuple[int, int, int]]
    ) -> Tensor:
        """Return the log-probability of a token at (row, column) for each (row, column, token)."""
        positions = list(dict.fromkeys(edge[:2] for edge in edges))
        logits = _wide(self._logits_at(read, rows, positions))
        index_of = {position: index for index, position in enumerate(positions)}
        pairs = [(index_of[row, column], token) for row, column, token in edges]
        index, token = torch.tensor(pairs, device=logits.device).unbind(dim=1)
        return logits[index, token] - logits.logsumexp(dim=-1)[index]

    def _encode(self, batch: Sequence[EncodedPrompt]) -> _Read:
        # Some architectures count positions by the tokens that are not padding.
        padding = getattr(self.model.config, "pad_token_id", None) or 0
        rows = [torch.tensor(prompt.ids) for prompt in batch]
        ids = pad_sequence(rows, batch_first=True, padding_value=padding)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()
        device = input_device(self.model)
        ids, mask = ids.to(device), mask.to(device)
        encoder = self.model.get_encoder()
        return _Read(encoder(input_ids=ids, attention_mask=mask, return_dict=True), mask)

    def _logits_at(
        self, read: _Read, rows: Sequence[_Row], positions: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return logits at some rows and columns, of shape (n_positions, n_vocabulary).

        Column 0 is the last token of the start.
        """
        row, column = torch.tensor(positions).unbind(dim=1)
        column = column + len(self._start) - 1
        with output_at(self.model, row.unsqueeze(0), column.unsqueeze(0)) as picked:
            logits = self._decode(read, rows)
        return logits[row, column] if picked.states is None else logits[0]

    def _decode(self, read: _Read, rows: Sequence[_Row]) -> Tensor:
        """Return logits after each token of some rows, the start included."""
        states, mask = read
        tokens = [torch.tensor([*self._start, *row.tokens]) for row in rows]
        texts = torch.tensor([row.text for row in rows])
        hidden = states.last_hidden_state
        return self.model(
            encoder_outputs=type(states)(last_hidden_state=hidden[texts.to(hidden.device)]),
            attention_mask=mask[texts.to(mask.device)],
            decoder_input_ids=pad_sequence(tokens, batch_first=True).to(mask.device),
            use_cache=False,
            return_dict=True,
        ).logits


def length_range(prompt: EncodedPrompt) -> int:
    """Return the range of lengths that a prompt is in: each goes up to twice the one before."""
    return prompt.n_tokens.bit_length()


def _lay_out(
    batch: Sequence[EncodedPrompt],
) -> tuple[list[_Row], dict[tuple[int, int], tuple[int, int]]]:
    """Return the rows of the decoder, and row and column of each text's nodes.

    Paths have their first nodes in common. Any of the copies will do.
    """
    rows: list[_Row] = []
    positions: dict[tuple[int, int], tuple[int, int]] = {}
    for text, prompt in enumerate(batch):
        for path in prompt.trie.paths:
            for column, node in enumerate((0, *path)):
                positions.setdefault((text, node), (len(rows), column))
            rows.append(_Row(text, [prompt.trie.tokens[node] for node in path]))
    return rows, positions


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
