"""Labelled texts → prompts to learn from, and their scores → the losses to minimise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.tokens.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tokens.tries import LabelTrie, keep_labels, with_response_end
from instructclf.engine.tokens.truncation import warn_of_cuts
from instructclf.exceptions import ScoringError

Loss = Literal["lm", "label", "lm+label"]
"""The negative log-likelihood of the response's tokens, that of its label among the labels, or the
sum of both."""


@dataclass(frozen=True, eq=False)
class Example:
    """A prompt with its label, and a trie of the tokens that its loss reads.

    Parameters
    ----------
    prompt : EncodedPrompt
        The prompt. Its trie has all answers, or only the right one if the loss is ``"lm"``. Its
        last entry is the end of the response, except if the loss is ``"label"``, which compares
        the answers with each other alone.
    synonyms : tuple of int
        The positions in the trie of all answers of the text's class, the preferred one first.
    n_response_tokens : int
        How many tokens the response has, including the end token if it is learned.
    loss : {"lm", "label", "lm+label"}, default="label"
        The loss to minimise.
    weight : float, default=1.0
        The factor of the loss.
    """

    prompt: EncodedPrompt
    synonyms: tuple[int, ...]
    n_response_tokens: int
    loss: Loss = "label"
    weight: float = 1.0


def make_examples(
    encoder: PromptEncoder,
    texts: Sequence[str],
    labels: NDArray[np.intp],
    *,
    loss: Loss = "label",
    weights: NDArray[np.float64] | None = None,
) -> list[Example]:
    """Encode texts as prediction does, and add the ends of responses to their tries.

    ``weights`` are the factors of the texts' losses. ``None`` is 1 for each.

    Warns
    -----
    TruncationWarning
        If texts had to be cut.
    """
    encoded = encoder.encode(texts)
    warn_of_cuts([i for i, prompt in enumerate(encoded) if prompt.was_cut], encoder.limit)
    tries: dict[tuple[int, int], LabelTrie] = {}
    examples = []
    weights = np.ones(len(texts)) if weights is None else weights
    for prompt, label, weight in zip(encoded, labels.tolist(), weights.tolist(), strict=True):
        synonyms = encoder.verbalizer.positions[label]
        key = (id(prompt.trie), label)
        if key not in tries:
            tries[key] = _trie_to_learn(prompt.trie, synonyms[0], encoder.end_token, loss)
        trie = tries[key]
        if loss == "lm":  # the right answer is the only one in the trie
            synonyms = (0,)
        response = {synonyms[0]} if loss == "label" else {synonyms[0], trie.n_labels - 1}
        n_tokens = sum(edge[0] in response for edge in trie.edges)
        prompt_to_learn = replace(prompt, trie=trie)
        examples.append(Example(prompt_to_learn, synonyms, n_tokens, loss, weight))
    return examples


def shared_ids(encoder: PromptEncoder, examples: Sequence[Example]) -> list[int]:
    """Return the encoder's prefix if all prompts begin with it, which cut prompts may not."""
    shared = encoder.prefix_ids
    return shared if all(example.prompt.prefix == shared for example in examples) else []


def _trie_to_learn(trie: LabelTrie, label: int, end_token: int | None, loss: Loss) -> LabelTrie:
    if loss == "label":
        return trie.relative
    if loss == "lm":
        return _with_end(keep_labels(trie, [label]), 0, end_token)
    return _with_end(trie, label, end_token)


def _with_end(trie: LabelTrie, label: int, end_token: int | None) -> LabelTrie:
    if end_token is None:  # a model without one is not taught where a response ends
        return LabelTrie(trie.tokens, trie.parents, trie.edges, trie.n_labels + 1)
    return with_response_end(trie, label, end_token)


def response_losses(scores: Tensor, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Return the loss of each text, and its label loss, which tells how well labels are told apart.

    ``scores`` are log-likelihoods of the entries in the examples' tries, of shape (n_texts,
    n_answers), the end of the response last. For ``"label"``, those of a text may all be shifted by
    the same number. All examples have the same kind of loss: ``"lm"`` is
    the mean negative log-likelihood of the response's tokens, including its end; ``"label"`` is the
    negative log-probability of the label among the labels, where all answers of a label count for
    it; ``"lm+label"`` is their sum. Weights are not applied. The label loss is ``"label"``; for
    ``"lm"``, which computes no other answers, it is the negative log-likelihood of the answer among
    all continuations, which is never smaller. Both results have shape (n_texts,).
    """
    device = scores.device
    preferred = torch.tensor([example.synonyms[0] for example in examples], device=device)
    kind = examples[0].loss
    if kind == "label":
        label_loss = _negative_share(scores, examples)
        return label_loss, label_loss
    answers, ends = scores[:, :-1], scores[:, -1]
    words = answers.gather(1, preferred.unsqueeze(1)).squeeze(1)
    n_tokens = torch.tensor([example.n_response_tokens for example in examples], device=device)
    language_loss = -(words + ends) / n_tokens
    if kind == "lm":
        return language_loss, -words
    label_loss = _negative_share(answers, examples)
    return language_loss + label_loss, label_loss


def send_gradients(
    scores: Tensor,
    examples: Sequence[Example],
    n_rows: int,
    scale: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Send the gradient of the weighted losses' sum, divided by ``n_rows``, back from the scores.

    ``scale`` scales the loss up, whose gradients would be too small for the data type otherwise.
    Returns weighted sums of both results of `response_losses`, of shape (2,).

    Raises
    ------
    ScoringError
        If no weight that is trained has a part in the scores.
    """
    if not scores.requires_grad:
        msg = (
            "No module that this adapter changes has a part in the scores of labels. Name others "
            "in its target_modules, such as 'all-linear'."
        )
        raise ScoringError(msg)
    weights = scores.new_tensor([example.weight for example in examples])
    loss, label_loss = (weights @ losses for losses in response_losses(scores, examples))
    mean = loss / n_rows
    (mean if scale is None else scale(mean)).backward()
    return torch.stack([loss, label_loss]).detach()


def _negative_share(answers: Tensor, examples: Sequence[Example]) -> Tensor:
    """Return the negative log-probability of the right labels among the labels."""
    is_right = torch.zeros(answers.shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        is_right[row, list(example.synonyms)] = True
    right = answers.masked_fill(~is_right.to(answers.device), -torch.inf)
    return answers.logsumexp(dim=1) - right.logsumexp(dim=1)
