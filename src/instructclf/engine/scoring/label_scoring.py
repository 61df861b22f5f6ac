"""Texts → label log-likelihoods, for one fitted classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from instructclf.engine.running.memory import give_back_free_memory
from instructclf.engine.running.progress import Progress
from instructclf.engine.scoring.reading import PromptReader
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.exceptions import ScoringError


@dataclass(frozen=True, eq=False)
class TokenScores:
    """The log-likelihoods of the labels of one text, token by token.

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


class LocalLabelScorer(PromptReader):
    """Score the labels after the prompts of one fitted classifier.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model, with an adapter or without.
    encoder : PromptEncoder
        Turns texts into prompts.
    max_batch_tokens : int or None, default=None
        How many tokens go through the model at once, padding included. ``None`` takes a number that
        suits the device. This changes speed and memory, not scores.
    """

    def score(
        self, texts: Sequence[str], progress: Progress | None = None, *, relative: bool = False
    ) -> NDArray[np.float64]:
        """Return ``log p(label | prompt)``, of shape (n_texts, n_labels), summed over answers.

        Equal texts go through the model once. If several processes share the work, each text goes
        through one of them. With ``relative``, scores lack what is the same for all labels of a
        text. For labels of one token that is the sum over the vocabulary, which takes a quarter
        of the time of a short text on Gemma 3.

        Raises
        ------
        ScoringError
            If a log-likelihood is not a number.

        Warns
        -----
        TruncationWarning
            If texts, or demonstrations of a single text, had to be cut: how many, and which.
        """
        verbalizer = self.encoder.verbalizer
        encode = self._encode_to_compare if relative else self._encode
        answers = self._read(texts, len(verbalizer.answers), progress, encode=encode)
        scores = verbalizer.sum_answers(answers)
        _check_finite(scores, texts)
        return scores

    def score_demonstrations(
        self, progress: Progress | None = None, *, relative: bool = False
    ) -> NDArray[np.float64]:
        """Score each demonstration after a prompt with all other demonstrations.

        The shape is (n_demonstrations, n_labels). Demonstrations of the same text are left out too:
        they would give the answer away. ``relative`` and the error are those of `score`.
        """
        prompt, verbalizer = self.encoder.prompt, self.encoder.verbalizer
        solved = prompt.demonstrations
        answers = np.empty((len(solved), len(verbalizer.answers)), dtype=np.float64)
        with self._turns, torch.inference_mode():
            for left_out, (text, _) in enumerate(solved):
                others = prompt.with_demonstrations(
                    tuple(pair for pair in solved if pair[0] != text)
                )
                prompts = self.encoder.encode_variants([others], [text])
                (encoded,) = _compare_alone(prompts) if relative else prompts
                answers[left_out] = self._shared.score_after_part(encoded)
                if progress is not None:
                    progress.advance()
        give_back_free_memory()  # of prefixes, each of a length of its own
        scores = verbalizer.sum_answers(answers)
        _check_finite(scores, [text for text, _ in solved])
        return scores

    def score_tokens(self, text: str) -> TokenScores:
        """Score each token of each label. ``score`` returns the sums over them."""
        with self._turns, torch.inference_mode():
            (encoded,) = self.encoder.encode([text])
            reader = self._reader_of([encoded])
            values = reader.score_edges(encoded)
            return TokenScores(encoded, values, reader.n_shared(encoded))

    def _encode_to_compare(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        return _compare_alone(self.encoder.encode(texts))


def _compare_alone(prompts: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
    """Return prompts whose labels are compared with each other alone."""
    return [replace(prompt, trie=prompt.trie.relative) for prompt in prompts]


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
