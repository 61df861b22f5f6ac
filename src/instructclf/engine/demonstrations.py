"""Demonstrations too long for the context → demonstrations that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instructclf.engine.encoding import LEAST_ROOM, PromptEncoder
from instructclf.engine.truncation import cut_to_fit, share_room
from instructclf.exceptions import PromptTooLongError, TruncationWarning, warn_caller
from instructclf.prompts import Prompt


def fit_demonstrations(
    tokenizer: Any,
    prompt: Prompt,
    label_words: Sequence[str | Sequence[str]],
    *,
    max_length: int | None,
    texts: Sequence[str],
) -> Prompt:
    """Cut demonstrations so that prompt and texts fit the context together.

    Room is left for a text as long as the longest one given, up to a quarter of the context. What
    remains is shared: short demonstrations stay whole, and long ones are cut to one common length.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    prompt : Prompt
        The prompt with whole demonstrations.
    label_words : sequence of (str or sequence of str)
        The words the model answers with, one entry a class: one answer, or several.
    max_length : int or None
        How many tokens prompt and label may take together. ``None`` for no limit.
    texts : sequence of str
        Texts like those to come.

    Returns
    -------
    Prompt
        The prompt, unchanged if it fits.

    Raises
    ------
    PromptTooLongError
        If demonstrations would have to be cut to less than a few tokens.

    Warns
    -----
    TruncationWarning
        If demonstrations were cut.
    """
    if max_length is None or not prompt.demonstrations:
        return prompt
    bare = PromptEncoder(tokenizer, prompt.with_demonstrations(()), label_words, max_length)
    lengths = [bare.count_tokens(text) for text, _ in prompt.demonstrations]
    reserve = min(max(map(bare.count_tokens, texts), default=0), max_length // 4)
    emptied = prompt.with_demonstrations(tuple(("", words) for _, words in prompt.demonstrations))
    frame = PromptEncoder(tokenizer, emptied, label_words, None)
    room = max_length - frame.n_label_tokens - frame.n_frame_tokens - reserve
    limit = share_room(lengths, max(room, 0))
    if limit >= max(lengths):
        return prompt
    _refuse_or_warn(lengths, limit, reserve=reserve, max_length=max_length)
    return prompt.with_demonstrations(
        tuple((cut_to_fit(x, limit, bare.count_tokens), y) for x, y in prompt.demonstrations)
    )


def _refuse_or_warn(lengths: Sequence[int], limit: int, *, reserve: int, max_length: int) -> None:
    beside = f"a text of {reserve} tokens and a label within max_length={max_length}"
    if limit < LEAST_ROOM:
        msg = (
            f"{len(lengths)} demonstrations do not fit beside {beside}: each would be cut to "
            f"{limit} tokens. Use fewer shots, or a model with a longer context."
        )
        raise PromptTooLongError(msg)
    warn_caller(
        f"{sum(length > limit for length in lengths)} of {len(lengths)} demonstrations were cut in "
        f"their middle to {limit} tokens each, to fit beside {beside}.",
        TruncationWarning,
    )
