"""Labelled texts → prompts to learn from, and what there is to minimise about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.tokens.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tokens.tries import LabelTrie, label_path, with_response_end
from instructclf.engine.tokens.truncation import warn_of_cuts

Loss = Literal["lm", "label", "lm+label"]
"""What is minimised: how unlikely the response is, how unlikely its label is among the labels, or
the sum of both."""


@dataclass(frozen=True, eq=False)
class Example:
    """A prompt with its label, whose trie holds what its loss reads and nothing else.

    Parameters
    ----------
    prompt : EncodedPrompt
        The prompt. Its trie has all answers, or for ``"lm"`` the right one alone. After them it has
        the end of the response, but for ``"label"``.
    synonyms : tuple of int
        The positions in the trie of all answers of the text's class, the preferred one first.
    n_response_tokens : int
        How many tokens the response has, its end included where that is learned.
    loss : {"lm", "label", "lm+label"}, default="lm+label"
        What is minimised.
    weight : float, default=1.0
        What the loss is multiplied by.
    """

    prompt: EncodedPrompt
    synonyms: tuple[int, ...]
    n_response_tokens: int
    loss: Loss = "lm+label"
    weight: float = 1.0


def make_examples(
    encoder: PromptEncoder,
    texts: Sequence[str],
    labels: NDArray[np.intp],
    *,
    loss: Loss = "lm+label",
    weights: NDArray[np.float64] | None = None,
) -> list[Example]:
    """Encode texts as prediction does, and add the ends of their responses.

    Parameters
    ----------
    encoder : PromptEncoder
        Turns texts into prompts.
    texts : sequence of str
        The texts.
    labels : ndarray of shape (n_texts,)
        The class of each text.
    loss : {"lm", "label", "lm+label"}, default="lm+label"
        What is minimised.
    weights : ndarray of shape (n_texts,) or None, default=None
        What each text's loss is multiplied by. ``None`` for 1.

    Returns
    -------
    list of Example
        One entry a text.

    Warns
    -----
    TruncationWarning
        If texts had to be cut.
    """
    encoded = encoder.encode(texts)
    warn_of_cuts([i for i, prompt in enumerate(encoded) if prompt.was_cut], encoder.max_length)
    tries: dict[tuple[int, int], LabelTrie] = {}
    examples = []
    own_weights = np.ones(len(texts)) if weights is None else weights
    for prompt, label, weight in zip(encoded, labels.tolist(), own_weights.tolist(), strict=True):
        synonyms = encoder.verbalizer.positions[label]
        key = (id(prompt.trie), label)
        if key not in tries:
            tries[key] = _trie_to_learn(prompt.trie, synonyms[0], encoder.end_token, loss)
        trie = tries[key]
        if loss == "lm":  # the trie has no other answer
            synonyms = (0,)
        response = {synonyms[0]} if loss == "label" else {synonyms[0], trie.n_labels - 1}
        n_tokens = sum(edge[0] in response for edge in trie.edges)
        prompt_to_learn = replace(prompt, trie=trie)
        examples.append(Example(prompt_to_learn, synonyms, n_tokens, loss, weight))
    return examples


def shared_ids(encoder: PromptEncoder, examples: Sequence[Example]) -> list[int]:
    """Return the tokens that all prompts begin with, if really all of them do."""
    shared = encoder.prefix_ids
    begin = all(example.prompt.prefix == shared for example in examples)
    return shared if begin else []


def _trie_to_learn(trie: LabelTrie, label: int, end_token: int | None, loss: Loss) -> LabelTrie:
    if loss == "label":
        return trie
    if loss == "lm":
        return _with_end(label_path(trie, label), 0, end_token)
    return _with_end(trie, label, end_token)


def _with_end(trie: LabelTrie, label: int, end_token: int | None) -> LabelTrie:
    if end_token is None:  # a model without one is not taught where a response ends
        return LabelTrie(trie.tokens, trie.parents, trie.edges, trie.n_labels + 1)
    return with_response_end(trie, label, end_token)


def response_losses(scores: Tensor, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Return what tuning minimises for each text, and how well it tells the labels apart.

    Parameters
    ----------
    scores : Tensor of shape (n_texts, n_answers)
        Log-likelihoods of the answers in the examples' tries, and the end of the response last.
    examples : sequence of Example
        The texts' answers, losses and how many tokens their responses have. All have one loss.

    Returns
    -------
    loss : Tensor of shape (n_texts,)
        ``"lm"`` is the mean negative log-likelihood of the response's tokens, its end included;
        ``"label"`` the negative log-probability of the label, by any of its answers, among the
        labels; ``"lm+label"`` their sum. Weights are not applied.
    label_loss : Tensor of shape (n_texts,)
        The negative log-probability of the label, by any of its answers, among the labels. For
        ``"lm"``, which does not compute the others, that of its words among all words, which is
        never less.
    """
    device = scores.device
    own = torch.tensor([example.synonyms[0] for example in examples], device=device).unsqueeze(1)
    kind = examples[0].loss
    if kind == "label":
        label_loss = _negative_share(scores, examples)
        return label_loss, label_loss
    answers, ends = scores[:, :-1], scores[:, -1]
    words = answers.gather(1, own).squeeze(1)
    n_tokens = torch.tensor([example.n_response_tokens for example in examples], device=device)
    language_loss = -(words + ends) / n_tokens
    if kind == "lm":
        return language_loss, -words
    label_loss = _negative_share(answers, examples)
    return language_loss + label_loss, label_loss


def _negative_share(answers: Tensor, examples: Sequence[Example]) -> Tensor:
    """Return the negative log-probability of the right labels among the labels."""
    is_right = torch.zeros(answers.shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        is_right[row, list(example.synonyms)] = True
    right = answers.masked_fill(~is_right.to(answers.device), -torch.inf)
    return answers.logsumexp(dim=1) - right.logsumexp(dim=1)
