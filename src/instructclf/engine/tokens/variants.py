"""Texts → token ids, each in a prompt with demonstrations chosen for that text.

All these prompts share the instruction as their prefix. Prompts with the same demonstrations share
the demonstrations too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from instructclf.engine.tokens.demonstrations import DemonstrationFitter, frame_with_demonstrations
from instructclf.engine.tokens.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tokens.tokenising import common_prefix_length
from instructclf.prompts import Prompt

Demonstrations = tuple[tuple[str, str], ...]
"""Solved examples, pairs of a text and its label words."""


class VariantEncoder(PromptEncoder):
    """Encode prompts whose demonstrations depend on the text.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    prompt : Prompt
        The prompt without demonstrations.
    label_words : sequence of (str or sequence of str)
        The words the model answers with, one entry a class: one answer, or several.
    max_length : int or None
        How many tokens prompt and label may take together. ``None`` for no limit.
    demonstrations_for : callable
        Takes a list of texts and returns the demonstrations of each. They are cut if they leave too
        little room for a text as long as the longest demonstration.
    n_embeddings : int or None, default=None
        How many tokens the model knows. ``None`` does not check for others.
    groups : tuple of int, default=()
        How many classes, in their order, belong to each of several questions. Empty for one.
    has_decoder : bool, default=False
        Whether an encoder reads the prompts and a decoder of its own produces the labels.

    Raises
    ------
    InvalidLabelsError, InvalidTemplateError, PromptTooLongError, ScoringError
        As `PromptEncoder`.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Prompt,
        label_words: Sequence[str | Sequence[str]],
        max_length: int | None,
        demonstrations_for: Callable[[Sequence[str]], Sequence[Demonstrations]],
        *,
        n_embeddings: int | None = None,
        groups: tuple[int, ...] = (),
        has_decoder: bool = False,
    ) -> None:
        frame = frame_with_demonstrations(prompt, label_words)
        self._options: dict[str, Any] = {
            "n_embeddings": n_embeddings,
            "groups": groups,
            "has_decoder": has_decoder,
        }
        super().__init__(tokenizer, prompt, label_words, max_length, frame=frame, **self._options)
        self._tokenizer = tokenizer
        self._demonstrations_for = demonstrations_for
        self._fitter = DemonstrationFitter(self)

    def encode(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Return the prompt of each text as token ids. Texts that are too long are cut.

        Raises
        ------
        PromptTooLongError
            If the demonstrations of a text would have to be cut to less than a few tokens.
        """
        prompts = self._prompts_for(texts)
        whole = self.encode_variants(prompts, texts)
        encoded = [
            self._cut_to_length(prompt, text, candidate)
            for prompt, text, candidate in zip(prompts, texts, whole, strict=True)
        ]
        for positions in _with_equal_demonstrations(prompts):
            sharing = _share_beginning([encoded[position] for position in positions])
            for position, prompt in zip(positions, sharing, strict=True):
                encoded[position] = prompt
        return encoded

    def prompt_for(self, text: str) -> Prompt:
        """Return the prompt that a text gets."""
        return self._prompts_for([text])[0]

    def shorten(self, text: str) -> str:
        """Return a text as it appears in its prompt: cut in its middle if it is too long."""
        return self._encoder_of(self.prompt_for(text)).shorten(text)

    def _prompts_for(self, texts: Sequence[str]) -> list[Prompt]:
        return [
            self._fitter.fit(
                self.prompt.with_demonstrations(solved), [example for example, _ in solved]
            ).prompt
            for solved in self._demonstrations_for(texts)
        ]

    def _encoder_of(self, prompt: Prompt) -> PromptEncoder:
        return PromptEncoder(
            self._tokenizer, prompt, self.verbalizer.classes, self.max_length, **self._options
        )

    def _cut_to_length(self, prompt: Prompt, text: str, encoded: EncodedPrompt) -> EncodedPrompt:
        """Return an encoded prompt, encoded again with its text cut if it is too long."""
        was_cut = False
        if not self.surely_fits(encoded):
            shortened = self._encoder_of(prompt).shorten(text)
            was_cut = shortened != text
            if was_cut:
                (encoded,) = self.encode_variants([prompt], [shortened])
        # A rare text changes the tokens before it, so that its prompt has only a part of the
        # prefix. Prefixes are computed whole, so that prompt shares none.
        if len(encoded.prefix) < len(self.prefix_ids):
            encoded = replace(encoded, prefix=(), tail=encoded.ids)
        has_cut = bool(prompt.cut_demonstrations)
        return replace(encoded, was_cut=was_cut, has_cut_demonstrations=has_cut)


def _with_equal_demonstrations(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Return the positions of each group of several prompts with the same demonstrations."""
    groups: dict[Demonstrations, list[int]] = {}
    for position, prompt in enumerate(prompts):
        groups.setdefault(prompt.demonstrations, []).append(position)
    return [positions for positions in groups.values() if len(positions) > 1]


def _share_beginning(encoded: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
    """Let prompts share all the tokens that they begin with."""
    ids = [prompt.ids for prompt in encoded]
    n_shared = min(common_prefix_length(ids), min(map(len, ids)) - 1)
    prefix = ids[0][:n_shared]
    return [
        replace(prompt, prefix=prefix, tail=whole[n_shared:])
        for prompt, whole in zip(encoded, ids, strict=True)
    ]
