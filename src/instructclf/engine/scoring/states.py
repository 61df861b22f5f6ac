"""Texts → the last hidden states at the ends of their prompts, from which labels are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from instructclf.engine.models.quantization import compute_dtype
from instructclf.engine.running.progress import Progress
from instructclf.engine.scoring.forward import last_states
from instructclf.engine.scoring.reading import PromptReader
from instructclf.engine.tokens.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tokens.tries import LabelTrie
from instructclf.exceptions import ScoringError

NO_LABELS = ("",)
"""The label words to encode prompts with if there are no labels: one answer without any token."""
_N_PROBED = 16
"""How many tokens take the place of labels when strategies are compared."""


class StateReader(PromptReader):
    """Read the last hidden state after the prompts of one fitted estimator.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model.
    encoder : PromptEncoder
        Turns texts into prompts. They end before the first token of its labels.
    max_batch_tokens : int or None, default=None
        How many tokens go through the model at once, padding included. ``None`` takes a number that
        suits the device. This changes speed and memory, not the states.
    """

    def __init__(
        self, model: Any, encoder: PromptEncoder, *, max_batch_tokens: int | None = None
    ) -> None:
        super().__init__(model, encoder, max_batch_tokens=max_batch_tokens, read=last_states)

    @property
    def n_channels(self) -> int:
        """The number of channels of a state."""
        return self.model.get_output_embeddings().in_features

    def read(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[Any]:
        """Return the last hidden state of each text, which the output layer reads.

        Its shape is (n_texts, n_channels). It is in float64 from a model in double precision,
        otherwise in float32. Equal texts go through the model once.

        Raises
        ------
        ScoringError
            If a state is not finite.

        Warns
        -----
        TruncationWarning
            If texts had to be cut: how many, and which.
        """
        is_double = compute_dtype(self.model) == torch.float64
        states = self._read(
            texts, self.n_channels, progress, np.float64 if is_double else np.float32
        )
        bad = np.flatnonzero(~np.isfinite(states).all(axis=1))
        if len(bad):
            msg = (
                f"The model returned a hidden state that is not finite for the text "
                f"{texts[int(bad[0])][:60]!r}. Half precision may have overflowed: try "
                "dtype='float32' or dtype='bfloat16'."
            )
            raise ScoringError(msg)
        return states

    def _encode(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        return [replace(prompt, trie=self._probed) for prompt in super()._encode(texts)]

    @cached_property
    def _probed(self) -> LabelTrie:
        """A root alone, at which the state is read.

        Its labels are tokens spread over the vocabulary, for strategies to be compared by.
        """
        n_tokens = self.model.get_output_embeddings().out_features
        probed = range(0, n_tokens, max(n_tokens // _N_PROBED, 1))
        edges = tuple((label, 0, token) for label, token in enumerate(probed))
        return LabelTrie((-1,), (0,), edges, len(edges))
