"""Encoder-decoder models: their tokenizers, and the slow way of scoring labels with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import processors

from tests.fixtures import END, START, make_tokenizer


def make_framing_tokenizer() -> Any:
    """Make a tokenizer that puts a start and an end token around each text, as BART's does."""
    tokenizer = make_tokenizer(adds_start=False)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return tokenizer


def score_with_labels(
    model: Any, tokenizer: Any, classifier: Any, texts: list[str]
) -> NDArray[np.float64]:
    """Return the scores of one pass of transformers for each text and label, (n_texts, n_labels).

    The label goes in as transformers trains on it. Of its tokens, those that the tokenizer puts
    around it do not count, except for the end of a label that begins another one.
    """
    prompts = [classifier.get_prompt(text) for text in texts]
    words = [answers[0] for answers in classifier.labeller_.label_words]
    with torch.no_grad():
        scores = [label_scores(model, tokenizer, prompt, words) for prompt in prompts]
    return torch.stack(scores).numpy()


def label_scores(model: Any, tokenizer: Any, prompt: str, words: list[str]) -> torch.Tensor:
    """Return the scores of labels after one prompt, of shape (n_labels,). Gradients reach them."""
    tokens = [_tokens_of(tokenizer, word) for word in words]
    return torch.stack(
        [
            label_score(model, tokenizer, prompt, word, ends=_begins_another(own, tokens))
            for word, own in zip(words, tokens, strict=True)
        ]
    )


def label_score(model: Any, tokenizer: Any, prompt: str, word: str, *, ends: bool) -> torch.Tensor:
    """Return the log-likelihood of a label, or of a label and the end token if it ``ends``."""
    inputs = torch.tensor([tokenizer(prompt, split_special_tokens=True)["input_ids"]])
    labels = torch.tensor([tokenizer(text_target=word)["input_ids"]])
    ids = _tokens_of(tokenizer, word)
    start = next(i for i in range(labels.numel()) if labels[0, i : i + len(ids)].tolist() == ids)
    logits = _run(model, inputs, labels)[0].double()
    log_probabilities = logits.log_softmax(dim=-1).gather(1, labels[0, :, None])[:, 0]
    return log_probabilities[start : start + len(ids) + ends].sum()


def response_loss(
    model: Any, tokenizer: Any, prompt: str, words: list[str], *, label: int, loss: str
) -> torch.Tensor:
    """Return the loss of one text as docs/tuning.md defines it, from one pass for each label."""
    scores = label_scores(model, tokenizer, prompt, words)
    of_label = scores.logsumexp(dim=0) - scores[label]
    if loss == "label":
        return of_label
    response = label_score(model, tokenizer, prompt, words[label], ends=True)
    of_language = -response / (len(_tokens_of(tokenizer, words[label])) + 1)
    return of_language if loss == "lm" else of_language + of_label


def _begins_another(own: list[int], tokens: list[list[int]]) -> bool:
    return any(other[: len(own)] == own for other in tokens if other != own)


def _run(model: Any, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if model.config.model_type == "fsmt":  # it takes labels for the loss alone
        shifted = model.prepare_decoder_input_ids_from_labels(labels)
        return model(input_ids=inputs, decoder_input_ids=shifted, use_cache=False).logits
    return model(input_ids=inputs, labels=labels).logits


def _tokens_of(tokenizer: Any, word: str) -> list[int]:
    return tokenizer(text_target=word, add_special_tokens=False)["input_ids"]
