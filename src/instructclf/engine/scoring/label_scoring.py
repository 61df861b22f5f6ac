"""Texts → label log-likelihoods, for one fitted classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from instructclf.engine.running.progress import Progress
from instructclf.engine.scoring.reading import PromptReader
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.verbalizers import Verbalizer
from instructclf.exceptions import ScoringError


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


class LabelScorer(PromptReader):
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
        answers = self._read(texts, len(self._verbalizer.answers), progress)
        scores = self._verbalizer.sum_answers(answers)
        _check_finite(scores, texts)
        return scores

    def score_demonstrations(self) -> NDArray[np.float64]:
        """Score each demonstration after a prompt that holds all the others.

        Others are those of another text: where rows repeat, the prompt would hold the answer.

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
                others = prompt.with_demonstrations(
                    tuple(pair for pair in solved if pair[0] != text)
                )
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

    @property
    def _verbalizer(self) -> Verbalizer:
        return self.encoder.verbalizer


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
