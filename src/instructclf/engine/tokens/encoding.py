"""Prompts → token ids, with the labels' ids as they are after that very prompt.

A prompt and its label are tokenised as one string, and what stands after the longest beginning that
all labels leave untouched is the label's: a token that spans the join belongs to the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from instructclf.engine.tokens.suffixes import SuffixTokeniser
from instructclf.engine.tokens.tokenising import WholeStringTokeniser, common_prefix_length
from instructclf.engine.tokens.tries import LabelTrie, build_trie
from instructclf.engine.tokens.truncation import cut_to_fit
from instructclf.engine.tokens.verbalizers import Verbalizer
from instructclf.exceptions import PromptTooLongError
from instructclf.prompts import Prompt

# Texts that begin and end in every way that changes how tokenizers join what stands around them.
_PROBES = ("", "a", " b ", "\nc\n", "1", "Why?", '"', "\té.", "#", "文")
LEAST_ROOM = 8
"""Tokens. With less than this for a text, or for a demonstration, nothing could be read from it."""


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """The prompt of one text, ready to score: what it shares with others, and what is its own.

    Parameters
    ----------
    own : list of int
        The prompt's tokens after the shared ones, without those that a label changes.
    trie : LabelTrie
        What comes after them.
    prefix : list of int, default=()
        The tokens that come before, one object for all prompts that share them.
    was_cut : bool, default=False
        Whether the text had to be cut to fit.
    has_cut_demonstrations : bool, default=False
        Whether demonstrations that only this prompt has were cut to fit.
    """

    own: list[int]
    trie: LabelTrie
    prefix: Sequence[int] = ()
    was_cut: bool = False
    has_cut_demonstrations: bool = False

    @property
    def ids(self) -> list[int]:
        """All tokens of the prompt."""
        return [*self.prefix, *self.own]

    @property
    def n_tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self.prefix) + len(self.own)

    def after(self, n_tokens: int) -> list[int]:
        """Return the tokens that come after the first ``n_tokens``."""
        return self.own if n_tokens == len(self.prefix) else self.ids[n_tokens:]


@dataclass(frozen=True)
class _Join:
    """How the labels' tokens follow on a prompt, wherever its last tokens are ``cue``."""

    n_dropped: int
    continuations: tuple[tuple[int, ...], ...]
    cue: tuple[int, ...]

    def holds_for(self, prefix: Sequence[int], own: list[int]) -> bool:
        n_cue = len(self.cue)
        ids = own if len(own) >= n_cue else [*prefix, *own]
        return n_cue > self.n_dropped and tuple(ids[-n_cue:]) == self.cue


class PromptEncoder:
    """Encode the prompts of one fitted classifier.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    prompt : Prompt
        What stands around each text.
    label_words : sequence of (str or sequence of str)
        The words the model answers with, one entry a class: one answer, or several.
    max_length : int or None
        How many tokens prompt and label may take together. ``None`` for no limit.
    frame : str or None, default=None
        The prompt without any text of a user, in which special tokens are looked for. ``None``
        takes the prompt given. Variants of it may have special tokens that it has not, as between
        demonstrations.

    Raises
    ------
    InvalidLabelsError
        If two answers have the same tokens.
    PromptTooLongError
        If the prompt leaves no room for a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Prompt,
        label_words: Sequence[str | Sequence[str]],
        max_length: int | None,
        *,
        frame: str | None = None,
    ) -> None:
        self.prompt = prompt
        self.verbalizer = Verbalizer(label_words)
        self.max_length = max_length
        self.end_token: int | None = tokenizer.eos_token_id
        self._tokenise = WholeStringTokeniser(
            tokenizer, prompt.render("") if frame is None else frame
        )
        self._tries: dict[tuple[tuple[int, ...], ...], LabelTrie] = {}
        self._check_room()

    @cached_property
    def prefix_ids(self) -> list[int]:
        """The tokens that the prompts of all texts begin with."""
        ids = self._probe_ids
        n_shared = min(common_prefix_length(ids), min(map(len, ids)) - self._n_dropped - 1)
        return ids[0][: max(n_shared, 0)]

    @property
    def trie(self) -> LabelTrie:
        """The labels' tokens after an ordinary prompt."""
        return self._trie(self._joins[0].continuations)

    def encode(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Return the prompt of each text as token ids, cut to the room there is.

        Parameters
        ----------
        texts : sequence of str
            The texts.

        Returns
        -------
        list of EncodedPrompt
            One entry a text.
        """
        parts = self._tokenise_texts(texts)
        shortened = {
            position: self.shorten(texts[position])
            for position, (prefix, own) in enumerate(parts)
            if self.max_length is not None and len(prefix) + len(own) > self._room_for_prompt
        }
        cut = self._tokenise_texts(list(shortened.values()))
        for position, part in zip(shortened, cut, strict=True):
            parts[position] = part
        return [
            self._join(*part, shortened.get(position, text), was_cut=position in shortened)
            for position, (part, text) in enumerate(zip(parts, texts, strict=True))
        ]

    def encode_variants(
        self, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> list[EncodedPrompt]:
        """Return other prompts with the same labels as token ids, as they are.

        What they share with this encoder's prompts is their prefix.
        """
        wholes = self._tokenise([p.render(text) for p, text in zip(prompts, texts, strict=True)])
        return [self._follow(*own) for own in zip(prompts, texts, wholes, strict=True)]

    def _follow(self, prompt: Prompt, text: str, ids: list[int]) -> EncodedPrompt:
        join = self._find_join(prompt, (), ids, text)
        kept = ids[: len(ids) - join.n_dropped]
        shared = self.prefix_ids
        n_shared = min(common_prefix_length([shared, kept]), len(kept) - 1)
        prefix = shared if n_shared == len(shared) else shared[:n_shared]
        return EncodedPrompt(kept[n_shared:], self._trie(join.continuations), prefix)

    def prompt_for(self, text: str) -> Prompt:  # noqa: ARG002  (a subclass looks at it)
        """Return the prompt that a text gets."""
        return self.prompt

    def shorten(self, text: str) -> str:
        """Return a text as it stands in its prompt: cut in its middle if it is too long."""
        if self.max_length is None:
            return text
        return cut_to_fit(text, self._room_for_prompt - self.n_frame_tokens, self.count_tokens)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text adds to the prompt."""
        ((prefix, own),) = self._tokenise_texts([text])
        return len(prefix) + len(own) - self.n_frame_tokens

    # Tokens, those of the shared beginning once

    @cached_property
    def _suffixes(self) -> SuffixTokeniser:
        probes = zip(map(self.prompt.ending, _PROBES), self._probe_ids, strict=True)
        return SuffixTokeniser(self._tokenise, self.prompt.beginning, self.prefix_ids, dict(probes))

    def _tokenise_texts(self, texts: Sequence[str]) -> list[tuple[Sequence[int], list[int]]]:
        """Return the shared tokens and the own ones of each text's prompt."""
        suffixes = self._suffixes([self.prompt.ending(text) for text in texts])
        unknown = [i for i, own in enumerate(suffixes) if own is None]
        wholes = self._tokenise([self.prompt.render(texts[i]) for i in unknown])
        split = {i: self._split(ids) for i, ids in zip(unknown, wholes, strict=True)}
        return [
            split[i] if own is None else (self.prefix_ids, own) for i, own in enumerate(suffixes)
        ]

    def _split(self, ids: list[int]) -> tuple[Sequence[int], list[int]]:
        """Part a prompt after the shared tokens, if it begins with them and has more."""
        n_shared = len(self.prefix_ids)
        begins = len(ids) > n_shared and ids[:n_shared] == self.prefix_ids
        return (self.prefix_ids, ids[n_shared:]) if begins else ((), ids)

    # How labels follow on prompts

    @cached_property
    def _probe_ids(self) -> list[list[int]]:
        return self._tokenise([self.prompt.render(probe) for probe in _PROBES])

    @cached_property
    def _joins(self) -> tuple[_Join, ...]:
        """The different ways in which labels join on prompts: one, for ordinary templates."""
        ids = self._probe_ids
        n_cue = common_prefix_length([sequence[::-1] for sequence in ids])
        joins = (
            self._observe_join(self.prompt, own, text, n_cue)
            for own, text in zip(ids, _PROBES, strict=True)
        )
        return tuple(dict.fromkeys(joins))

    @property
    def _n_dropped(self) -> int:
        return max(join.n_dropped for join in self._joins)

    def _observe_join(self, prompt: Prompt, ids: list[int], text: str, n_cue: int) -> _Join:
        """Tokenise a prompt with each label, and see where the labels begin."""
        answered = self._tokenise([prompt.render(text, words) for words in self.verbalizer.answers])
        n_kept = min(common_prefix_length([ids, whole]) for whole in answered)
        continuations = tuple(tuple(whole[n_kept:]) for whole in answered)
        return _Join(len(ids) - n_kept, continuations, tuple(ids[len(ids) - n_cue :]))

    def _join(
        self, prefix: Sequence[int], own: list[int], text: str, *, was_cut: bool
    ) -> EncodedPrompt:
        join = self._find_join(self.prompt, prefix, own, text)
        if join.n_dropped >= len(own):  # the labels change a token that other prompts share
            prefix, own = (), [*prefix, *own]
        kept = own[: len(own) - join.n_dropped]
        return EncodedPrompt(kept, self._trie(join.continuations), prefix, was_cut)

    def _find_join(self, prompt: Prompt, prefix: Sequence[int], own: list[int], text: str) -> _Join:
        """Return how labels join on a prompt, observed on that very prompt if need be."""
        join = self._joins[0]
        if len(self._joins) == 1 and join.holds_for(prefix, own):
            return join
        return self._observe_join(prompt, [*prefix, *own], text, n_cue=0)

    def _trie(self, continuations: tuple[tuple[int, ...], ...]) -> LabelTrie:
        """Return one trie for equal continuations, so that rows can be told to share it."""
        if continuations not in self._tries:
            self._tries[continuations] = build_trie(continuations, self.end_token)
        return self._tries[continuations]

    # Room

    def count_frame(self, prompt: Prompt) -> int:
        """Return how many tokens another prompt takes without a text."""
        return len(self._tokenise([prompt.render("")])[0])

    def surely_fits(self, encoded: EncodedPrompt) -> bool:
        """Say whether a prompt and any label fit, whatever tokens at their join come to."""
        return self.max_length is None or encoded.n_tokens + LEAST_ROOM <= self._room_for_prompt

    @cached_property
    def n_frame_tokens(self) -> int:
        """How many tokens the prompt takes without a text."""
        return len(self._probe_ids[_PROBES.index("")])

    @cached_property
    def n_label_tokens(self) -> int:
        """How many tokens the longest label takes, with an end token."""
        return 1 + max(len(c) for join in self._joins for c in join.continuations)

    @cached_property
    def _room_for_prompt(self) -> int:
        return (self.max_length or 0) - self.n_label_tokens

    def _check_room(self) -> None:
        if self.max_length is None:
            return
        room = self._room_for_prompt - self.n_frame_tokens
        if room < LEAST_ROOM:
            n_shots = len(self.prompt.demonstrations)
            msg = (
                f"Instruction, definitions and {n_shots} demonstrations take "
                f"{self.n_frame_tokens} tokens, which leaves {max(room, 0)} of "
                f"max_length={self.max_length} for a text. Use fewer shots, shorter definitions, "
                "a larger max_length, or a model with a longer context."
            )
            raise PromptTooLongError(msg)
