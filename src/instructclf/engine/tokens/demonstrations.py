"""Demonstrations that are too long for the context → demonstrations that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from instructclf.engine.tokens.encoding import MIN_TEXT_TOKENS, PromptEncoder
from instructclf.engine.tokens.truncation import cut_to_fit, share_room
from instructclf.engine.tokens.verbalizers import Verbalizer
from instructclf.exceptions import PromptTooLongError, TruncationWarning, warn_caller
from instructclf.prompts import Prompt


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt whose demonstrations fit the context, and how they were made to fit.

    Parameters
    ----------
    prompt : Prompt
        The prompt.
    limit : int or None, default=None
        The number of tokens to which long demonstrations were cut. ``None`` if none was cut.
    reserve : int, default=0
        The number of tokens left for a text.
    """

    prompt: Prompt
    limit: int | None = None
    reserve: int = 0


class DemonstrationFitter:
    """Cut demonstrations so that prompt and text fit the context together.

    It remembers the lengths of texts, because many prompts may use the same demonstrations.

    Parameters
    ----------
    encoder : PromptEncoder
        The encoder of the prompt without demonstrations.
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        self._count_tokens = cache(encoder.count_tokens)
        self._count_frame = cache(encoder.count_frame)
        self._encoder = encoder

    def fit(self, prompt: Prompt, texts: Sequence[str]) -> FittedPrompt:
        """Cut demonstrations that leave too little room for texts of these lengths.

        Raises
        ------
        PromptTooLongError
            If demonstrations would have to be cut to less than a few tokens.
        """
        max_length = self._encoder.max_length
        if max_length is None or not prompt.demonstrations:
            return FittedPrompt(prompt)
        lengths = [self._count_tokens(text) for text, _ in prompt.demonstrations]
        reserve = min(max(map(self._count_tokens, texts), default=0), max_length // 4)
        emptied = tuple(("", answer) for _, answer in prompt.demonstrations)
        n_frame_tokens = self._count_frame(prompt.with_demonstrations(emptied))
        room = max_length - self._encoder.n_label_tokens - n_frame_tokens - reserve
        limit = share_room(lengths, max(room, 0))
        if limit >= max(lengths):
            return FittedPrompt(prompt)
        if limit < MIN_TEXT_TOKENS:
            msg = (
                f"{len(lengths)} demonstrations do not fit together with "
                f"{_remainder(reserve, self._encoder)}: each would be cut to {limit} tokens. Use "
                "fewer shots, or a model with a longer context."
            )
            raise PromptTooLongError(msg)
        return FittedPrompt(self._cut(prompt, lengths, limit), limit, reserve)

    def _cut(self, prompt: Prompt, lengths: Sequence[int], limit: int) -> Prompt:
        demonstrations = tuple(
            (cut_to_fit(text, limit, self._encoder.count_tokens), answer)
            for text, answer in prompt.demonstrations
        )
        cut = tuple(i for i, length in enumerate(lengths) if length > limit)
        return replace(prompt, demonstrations=demonstrations, cut_demonstrations=cut)


def fit_demonstrations(
    tokenizer: Any,
    prompt: Prompt,
    label_words: Sequence[str | Sequence[str]],
    *,
    max_length: int | None,
    texts: Sequence[str],
    has_decoder: bool = False,
) -> Prompt:
    """Cut demonstrations so that prompt and texts fit the context together.

    Room is left for a text as long as the longest one given, up to a quarter of the context. The
    demonstrations share the rest: short ones stay whole, long ones are cut to one common length.
    Prompt and label may take ``max_length`` tokens together, or any number if it is ``None``. With
    ``has_decoder``, a decoder of its own produces the label, and the prompt may take all of them.

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
    bare = prompt.with_demonstrations(())
    encoder = PromptEncoder(
        tokenizer,
        bare,
        label_words,
        max_length,
        frame=frame_with_demonstrations(prompt, label_words),
        has_decoder=has_decoder,
    )
    fitted = DemonstrationFitter(encoder).fit(prompt, texts)
    if fitted.limit is not None:
        warn_caller(
            f"{len(fitted.prompt.cut_demonstrations)} of {len(prompt.demonstrations)} "
            f"demonstrations were cut in their middle to {fitted.limit} tokens each, to leave room "
            f"for {_remainder(fitted.reserve, encoder)}.",
            TruncationWarning,
        )
    return fitted.prompt


def frame_with_demonstrations(prompt: Prompt, label_words: Sequence[str | Sequence[str]]) -> str:
    """Return a prompt with two demonstrations but without any text of a user.

    It contains every special token that the template puts into prompts.
    """
    answer = Verbalizer(label_words).preferred[0]
    return prompt.with_demonstrations((("", answer), ("", answer))).render("")


def _remainder(reserve: int, encoder: PromptEncoder) -> str:
    return f"a text of {reserve} tokens and a label within {encoder.limit}"
