"""Prompts → token ids, with the tokens that each label has after that very prompt.

A prompt and a label are tokenised as one string. The label's tokens begin where the prompt's tokens
first differ with any label: a token that spans the boundary belongs to the label. The decoder of an
encoder-decoder model produces labels as sequences of their own, which are tokenised alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from instructclf.engine.tokens.boundaries import Boundary
from instructclf.engine.tokens.side_by_side import SideBySide, tokenise_side_by_side
from instructclf.engine.tokens.tokenising import (
    SuffixTokeniser,
    WholeStringTokeniser,
    common_prefix_length,
    find_end_token,
)
from instructclf.engine.tokens.tries import LabelTrie, build_trie, in_groups
from instructclf.engine.tokens.truncation import cut_to_fit
from instructclf.engine.tokens.verbalizers import Verbalizer
from instructclf.exceptions import InvalidLabelsError, PromptTooLongError, ScoringError
from instructclf.prompts import Prompt

# Texts that begin and end in every way that changes how tokenizers merge them with the template.
_PROBES = ("", "a", " b ", "\nc\n", "1", "Why?", '"', "\té.", "#", "文")
MIN_TEXT_TOKENS = 8
"""The model can learn nothing from a text, or a demonstration, that is cut to fewer tokens."""


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """The prompt of one text as token ids.

    Parameters
    ----------
    tail : list of int
        The prompt's tokens after the shared ones, without those that a label changes.
    trie : LabelTrie
        The labels' tokens after the prompt.
    prefix : sequence of int, default=()
        The tokens before the tail. Prompts that share them hold the same object.
    was_cut : bool, default=False
        Whether the text had to be cut to fit.
    has_cut_demonstrations : bool, default=False
        Whether demonstrations that belong to this prompt alone were cut to fit.

    Attributes
    ----------
    n_tokens : int
        How many tokens the prompt has.
    """

    tail: list[int]
    trie: LabelTrie
    prefix: Sequence[int] = ()
    was_cut: bool = False
    has_cut_demonstrations: bool = False
    n_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_tokens", len(self.prefix) + len(self.tail))

    @property
    def ids(self) -> list[int]:
        """All tokens of the prompt."""
        return [*self.prefix, *self.tail]


class PromptEncoder:
    """Encode the prompts of one fitted classifier.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    prompt : Prompt
        The template, instruction and demonstrations around each text.
    label_words : sequence of (str or sequence of str)
        The words the model answers with, one entry a class: one answer, or several.
    max_length : int or None
        How many tokens prompt and label may take together. ``None`` for no limit.
    frame : str or None, default=None
        The prompt without any text of a user, in which special tokens are looked for. ``None``
        takes ``prompt``. Variants of it may have special tokens that it does not have, such as
        those between demonstrations.
    n_embeddings : int or None, default=None
        How many tokens the model knows. ``None`` does not check for others.
    groups : tuple of int, default=()
        How many classes, in their order, belong to each of several questions. Empty for one.
    has_decoder : bool, default=False
        Whether an encoder reads the prompts and a decoder of its own produces the labels.

    Raises
    ------
    InvalidLabelsError
        If two answers of one question have the same tokens.
    InvalidTemplateError
        If the tokenizer lacks the token with which the template ends responses.
    PromptTooLongError
        If the prompt leaves no room for a text.
    ScoringError
        If the model does not know a token, or one answer begins another and no token ends it.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Prompt,
        label_words: Sequence[str | Sequence[str]],
        max_length: int | None,
        *,
        frame: str | None = None,
        n_embeddings: int | None = None,
        groups: tuple[int, ...] = (),
        has_decoder: bool = False,
    ) -> None:
        self.prompt = prompt
        self.verbalizer = Verbalizer(label_words, groups)
        self.max_length = max_length
        self.end_token = find_end_token(tokenizer, prompt.template.end_token)
        self._tokenise = WholeStringTokeniser(
            tokenizer,
            prompt.render("") if frame is None else frame,
            n_embeddings,
            for_encoder=has_decoder,
        )
        self._has_decoder = has_decoder
        self._tries: dict[tuple[tuple[int, ...], ...], LabelTrie] = {}
        for boundary in self._boundaries:
            self._trie(boundary.continuations)
        self._check_room()

    @cached_property
    def prefix_ids(self) -> list[int]:
        """The tokens that the prompts of all texts begin with."""
        ids = self._probe_ids
        n_dropped = max(boundary.n_dropped for boundary in self._boundaries)
        n_shared = min(common_prefix_length(ids), min(map(len, ids)) - n_dropped - 1)
        return ids[0][: max(n_shared, 0)]

    @cached_property
    def side_by_side(self) -> SideBySide | None:
        """What the model reads side by side in place of a list of labels, if anything."""
        return tokenise_side_by_side(self.prompt, self._tokenise, self.prefix_ids)

    @property
    def trie(self) -> LabelTrie:
        """The labels' tokens after an ordinary prompt."""
        return self._trie(self._boundaries[0].continuations)

    @property
    def framed_label(self) -> tuple[list[int], int]:
        """A label that a decoder of its own produces, as the tokenizer frames it for training.

        Its tokens, and how many of them come before those of the label itself.
        """
        before, after = self._tokenise.label_frame
        return [*before, *self._boundaries[0].continuations[0], *after], len(before)

    def encode(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Return the prompt of each text as token ids. Texts that are too long are cut."""
        tokenised = self._tokenise_texts(texts)
        shortened = {
            position: self.shorten(texts[position])
            for position, (prefix, tail) in enumerate(tokenised)
            if self.max_length is not None and len(prefix) + len(tail) > self._room_for_prompt
        }
        if shortened:
            cut = self._tokenise_texts(list(shortened.values()))
            for position, tokens in zip(shortened, cut, strict=True):
                tokenised[position] = tokens
        return [
            self._encode_one(*tokens, shortened.get(position, text), was_cut=position in shortened)
            for position, (tokens, text) in enumerate(zip(tokenised, texts, strict=True))
        ]

    def encode_variants(
        self, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> list[EncodedPrompt]:
        """Return other prompts with the same labels as token ids, without cutting their texts.

        Their prefix is what they share with the prefix of this encoder's prompts.
        """
        wholes = self._tokenise([p.render(text) for p, text in zip(prompts, texts, strict=True)])
        return [
            self._encode_variant(prompt, text, ids)
            for prompt, text, ids in zip(prompts, texts, wholes, strict=True)
        ]

    def prompt_for(self, text: str) -> Prompt:  # noqa: ARG002  (subclasses use the text)
        """Return the prompt that a text gets."""
        return self.prompt

    def shorten(self, text: str) -> str:
        """Return a text as it appears in its prompt: cut in its middle if it is too long."""
        if self.max_length is None:
            return text
        return cut_to_fit(text, self._room_for_prompt - self.n_frame_tokens, self.count_tokens)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text adds to the prompt."""
        ((prefix, tail),) = self._tokenise_texts([text])
        return len(prefix) + len(tail) - self.n_frame_tokens

    @cached_property
    def _probe_ids(self) -> list[list[int]]:
        return self._tokenise([self.prompt.render(probe) for probe in _PROBES])

    @cached_property
    def _suffixes(self) -> SuffixTokeniser:
        endings = map(self.prompt.ending, _PROBES)
        examples = dict(zip(endings, self._probe_ids, strict=True))
        return SuffixTokeniser(self._tokenise, self.prompt.beginning, self.prefix_ids, examples)

    def _tokenise_texts(self, texts: Sequence[str]) -> list[tuple[Sequence[int], list[int]]]:
        """Return the shared tokens of each text's prompt, and the tokens after them."""
        return self._suffixes([self.prompt.ending(text) for text in texts])

    # The boundary between a prompt and its labels

    @cached_property
    def _boundaries(self) -> tuple[Boundary, ...]:
        """The different boundaries of prompts and labels: one, for ordinary templates."""
        if self._has_decoder:
            labels = self._tokenise.labels(self.verbalizer.answers)
            return (Boundary(0, tuple(map(tuple, labels)), cue=()),)
        ids = self._probe_ids
        n_cue = common_prefix_length([sequence[::-1] for sequence in ids])
        boundaries = (
            self._observe_boundary(self.prompt, whole, text, n_cue)
            for whole, text in zip(ids, _PROBES, strict=True)
        )
        return tuple(dict.fromkeys(boundaries))

    def _observe_boundary(self, prompt: Prompt, ids: list[int], text: str, n_cue: int) -> Boundary:
        """Tokenise a prompt with each label to find where the labels begin."""
        answered = self._tokenise([prompt.render(text, words) for words in self.verbalizer.answers])
        n_kept = min(common_prefix_length([ids, whole]) for whole in answered)
        continuations = tuple(tuple(whole[n_kept:]) for whole in answered)
        return Boundary(len(ids) - n_kept, continuations, tuple(ids[len(ids) - n_cue :]))

    def _find_boundary(
        self, prompt: Prompt, prefix: Sequence[int], tail: list[int], text: str
    ) -> Boundary:
        """Return the known boundary if it holds for a prompt, or else observe it on that prompt."""
        boundary, *others = self._boundaries
        if self._has_decoder or (not others and boundary.holds_for(prefix, tail)):
            return boundary
        ids = [*prefix, *tail]
        boundary = self._observe_boundary(prompt, ids, text, n_cue=0)
        if len(ids) <= boundary.n_dropped:
            msg = (
                f"The prompt of the text {text[:60]!r} has no token before its label, so no label "
                "can be scored after it. Use a template with fixed text."
            )
            raise ScoringError(msg)
        return boundary

    def _encode_one(
        self, prefix: Sequence[int], tail: list[int], text: str, *, was_cut: bool
    ) -> EncodedPrompt:
        boundary = self._find_boundary(self.prompt, prefix, tail, text)
        if boundary.n_dropped >= len(tail):  # the labels change a token that other prompts share
            prefix, tail = (), [*prefix, *tail]
        kept = tail[: len(tail) - boundary.n_dropped]
        return EncodedPrompt(kept, self._trie(boundary.continuations), prefix, was_cut)

    def _encode_variant(self, prompt: Prompt, text: str, ids: list[int]) -> EncodedPrompt:
        boundary = self._find_boundary(prompt, (), ids, text)
        kept = ids[: len(ids) - boundary.n_dropped]
        shared = self.prefix_ids
        n_shared = min(common_prefix_length([shared, kept]), len(kept) - 1)
        prefix = shared if n_shared == len(shared) else shared[:n_shared]
        return EncodedPrompt(kept[n_shared:], self._trie(boundary.continuations), prefix)

    def _trie(self, continuations: tuple[tuple[int, ...], ...]) -> LabelTrie:
        """Return the same trie for equal continuations, so that prompts can be seen to share it."""
        if continuations not in self._tries:
            groups = self.verbalizer.answer_groups
            words = in_groups(self.verbalizer.answers, groups)
            for own, tokens in zip(words, in_groups(continuations, groups), strict=True):
                _check_different(own, tokens)
            self._tries[continuations] = build_trie(continuations, self.end_token, groups)
        return self._tries[continuations]

    # Room

    @property
    def limit(self) -> str:
        """What limits the length of prompts, for messages."""
        from_tokenizer = self.max_length == self._tokenise.tokenizer.model_max_length
        source = " (the tokenizer's model_max_length)" if from_tokenizer else ""
        return f"max_length={self.max_length}{source}"

    def count_frame(self, prompt: Prompt) -> int:
        """Return how many tokens another prompt takes without a text."""
        return len(self._tokenise([prompt.render("")])[0])

    def surely_fits(self, encoded: EncodedPrompt) -> bool:
        """Say whether a prompt and any label fit, however tokens merge at their boundary."""
        if self.max_length is None:
            return True
        return encoded.n_tokens + MIN_TEXT_TOKENS <= self._room_for_prompt

    @cached_property
    def n_frame_tokens(self) -> int:
        """How many tokens the prompt takes without a text."""
        return len(self._probe_ids[_PROBES.index("")])

    @cached_property
    def n_label_tokens(self) -> int:
        """How many tokens the longest label takes after a prompt, with an end token."""
        if self._has_decoder:
            return 0
        return 1 + max(len(c) for boundary in self._boundaries for c in boundary.continuations)

    @cached_property
    def _room_for_prompt(self) -> int:
        return (self.max_length or 0) - self.n_label_tokens

    def _check_room(self) -> None:
        if self.max_length is None:
            return
        room = self._room_for_prompt - self.n_frame_tokens
        if room < MIN_TEXT_TOKENS:
            n_shots = len(self.prompt.demonstrations)
            msg = (
                f"Instruction, definitions and {n_shots} demonstrations take "
                f"{self.n_frame_tokens} tokens, which leaves {max(room, 0)} of "
                f"{self.limit} for a text. Use fewer shots, shorter definitions, "
                "a larger max_length, or a model with a longer context."
            )
            raise PromptTooLongError(msg)


def _check_different(answers: Sequence[str], continuations: Sequence[tuple[int, ...]]) -> None:
    words_of: dict[tuple[int, ...], str] = {}
    for words, tokens in zip(answers, continuations, strict=True):
        if tokens in words_of:
            msg = (
                f"The label words {words_of[tokens]!r} and {words!r} are the same tokens, so "
                "the model cannot tell them apart. Give other words in 'verbalizer'."
            )
            raise InvalidLabelsError(msg)
        words_of[tokens] = words
