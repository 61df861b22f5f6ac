"""Labelled texts → prompts to learn from, and what there is to minimise about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tries import LabelTrie, with_response_end
from instructclf.engine.truncation import warn_of_cuts


@dataclass(frozen=True, eq=False)
class Example:
    """A prompt with its label, whose trie also holds the end of that label's response.

    Parameters
    ----------
    prompt : EncodedPrompt
        The prompt. The last label of its trie is the end of the response.
    answer : int
        The position of the right answer, the preferred one of the text's class.
    synonyms : tuple of int
        The positions of all answers of that class.
    n_response_tokens : int
        How many tokens the response has, its end included.
    """

    prompt: EncodedPrompt
    answer: int
    synonyms: tuple[int, ...]
    n_response_tokens: int


def make_examples(
    encoder: PromptEncoder, texts: Sequence[str], labels: NDArray[np.intp]
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
    grown: dict[tuple[int, int], LabelTrie] = {}
    examples = []
    for prompt, label in zip(encoded, labels.tolist(), strict=True):
        synonyms = encoder.verbalizer.positions[label]
        answer = synonyms[0]
        key = (id(prompt.trie), answer)
        if key not in grown:
            grown[key] = _with_end(prompt.trie, answer, encoder.end_token)
        trie = grown[key]
        n_tokens = sum(edge[0] in {answer, trie.n_labels - 1} for edge in trie.edges)
        examples.append(Example(replace(prompt, trie=trie), answer, synonyms, n_tokens))
    return examples


def shared_ids(encoder: PromptEncoder, examples: Sequence[Example]) -> list[int]:
    """Return the tokens that all prompts begin with, if really all of them do."""
    shared = encoder.prefix_ids
    begin = all(example.prompt.prefix == shared for example in examples)
    return shared if begin else []


def _with_end(trie: LabelTrie, label: int, end_token: int | None) -> LabelTrie:
    if end_token is None:  # a model without one is not taught where a response ends
        return LabelTrie(trie.tokens, trie.parents, trie.edges, trie.n_labels + 1)
    return with_response_end(trie, label, end_token)


def response_losses(scores: Tensor, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Return what tuning minimises for each text, in its two parts.

    Parameters
    ----------
    scores : Tensor of shape (n_texts, n_answers + 1)
        Log-likelihoods of the answers, then of the end of each text's own response.
    examples : sequence of example
        The texts' answers, and how many tokens their responses have.

    Returns
    -------
    language_loss, label_loss : Tensor of shape (n_texts,)
        The mean negative log-likelihood of the response's tokens, its end included; and the
        negative log-probability of the label, by any of its answers, among the labels.
    """
    device = scores.device
    own = torch.tensor([example.answer for example in examples], device=device).unsqueeze(1)
    n_tokens = torch.tensor([example.n_response_tokens for example in examples], device=device)
    answers, ends = scores[:, :-1], scores[:, -1]
    language_loss = -(answers.gather(1, own).squeeze(1) + ends) / n_tokens
    is_right = torch.zeros(answers.shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        is_right[row, list(example.synonyms)] = True
    right = answers.masked_fill(~is_right.to(device), -torch.inf)
    return language_loss, answers.logsumexp(dim=1) - right.logsumexp(dim=1)
