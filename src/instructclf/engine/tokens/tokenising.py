"""Whole strings → token ids, the same for prompts alone and prompts with a label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from instructclf.engine.running.locks import tokenizer_state
from instructclf.prompts.neutralising import SPACE, neutralise

_N_CONTEXT = 8
"""Tokens that are decoded along, so that the first in question is not the first of all."""
_BREAKERS = (SPACE, "|", "_", ".")
_NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class WholeStringTokeniser:
    """Tokenise rendered prompts, special tokens included where they belong.

    The tokens that a tokenizer puts before a text (a beginning-of-sequence token) are put before
    each prompt, unless the prompt has its own. What it puts after a text is left out: the model is
    to go on from there.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    frame : str
        The prompt without any text of a user. Only if it contains special tokens, as chat
        templates do, are these read as such.
    """

    def __init__(self, tokenizer: Any, frame: str) -> None:
        self.tokenizer = tokenizer
        self.reads_special_tokens = any(
            token in frame for token in _longest_first(_special_strings(tokenizer))
        )
        bos = tokenizer.bos_token
        self._has_own_start = bool(bos) and frame.startswith(bos)

    def __call__(self, strings: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each string."""
        start = [] if self._has_own_start or not strings else self._start
        return [start + ids for ids in self.without_start(strings)]

    def without_start(self, strings: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each string, with nothing put before it."""
        return self._encode(list(strings), special_tokens=False) if strings else []

    @cached_property
    def _start(self) -> list[int]:
        """What the tokenizer puts before a text."""
        (plain,) = self._encode(["a"], special_tokens=False)
        (framed,) = self._encode(["a"], special_tokens=True)
        for start in range(len(framed) - len(plain) + 1):
            if framed[start : start + len(plain)] == plain:
                return framed[:start]
        return []

    def _encode(self, strings: list[str], *, special_tokens: bool) -> list[list[int]]:
        with tokenizer_state:
            encoded = self.tokenizer(
                strings,
                add_special_tokens=special_tokens,
                split_special_tokens=not self.reads_special_tokens,
                return_attention_mask=False,
                verbose=False,
            )
        return encoded["input_ids"]


def control_strings(tokenizer: Any) -> tuple[str, ...]:
    """Return every token of a tokenizer that no text may contain, as text.

    These are its special tokens, and whatever else was added to the vocabulary in brackets, such as
    ``<think>``: a tokenizer finds those in any text, however special tokens are treated.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.

    Returns
    -------
    tuple of str
        The tokens, longest first, so that one inside another is found second.
    """
    bracketed = {text for text in map(str, _added_tokens(tokenizer)) if _is_bracketed(text)}
    return _longest_first(bracketed | _special_strings(tokenizer))


def find_breaker(tokenizer: Any, markers: Sequence[str]) -> str:
    """Return what a tokenizer tells broken markers by: a space, unless it sees no white space.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    markers : sequence of str
        The markers of a template.

    Returns
    -------
    str
        What to put between two characters to part them.
    """
    read = WholeStringTokeniser(tokenizer, frame="").without_start
    in_one_line, in_two = read(["a b", "a\nb"])
    for breaker in _BREAKERS[in_one_line == in_two :]:
        broken = [neutralise(marker, markers, breaker=breaker) for marker in markers]
        pairs = zip(markers, broken, read(broken), read(list(markers)), strict=True)
        if all(new != old for text, parted, new, old in pairs if parted != text):
            return breaker
    return SPACE


def _special_strings(tokenizer: Any) -> set[str]:
    found = {str(token) for token in tokenizer.all_special_tokens}
    return found | {str(token) for token in _added_tokens(tokenizer) if token.special}


def _added_tokens(tokenizer: Any) -> list[Any]:
    return list(getattr(tokenizer, "added_tokens_decoder", {}).values())


def _is_bracketed(text: str) -> bool:
    ends = text[:1] + text[-1:]
    return len(text) > 2 and not ends.isspace() and not any(map(str.isalnum, ends))


def _longest_first(strings: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted((own for own in strings if own.strip()), key=lambda t: (-len(t), t)))


def token_pieces(tokenizer: Any, ids: Sequence[int], before: Sequence[int] = ()) -> list[str]:
    """Return the characters that each token stands for, in its place.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    ids : sequence of int
        The tokens.
    before : sequence of int, default=()
        Tokens that come before them: some tokenizers leave out the space that a text begins with.

    Returns
    -------
    list of str
        One entry a token. A token that is only a part of a character is given by the name that the
        tokenizer has for it.
    """
    context = list(before[-_N_CONTEXT:])
    read = [_decode(tokenizer, [*context, *ids[:n]]) for n in range(len(ids) + 1)]
    pieces = []
    for own, shorter, longer in zip(ids, read, read[1:], strict=False):
        piece = longer[len(shorter) :]
        is_whole = longer.startswith(shorter) and piece and _NO_CHARACTER not in piece
        pieces.append(piece if is_whole else str(tokenizer.convert_ids_to_tokens(int(own))))
    return pieces


def _decode(tokenizer: Any, ids: list[int]) -> str:
    with tokenizer_state:
        return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def common_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many first items all the sequences share."""
    for position, items in enumerate(zip(*sequences, strict=False)):
        if len(set(items)) > 1:
            return position
    return min(map(len, sequences))
