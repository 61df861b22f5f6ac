"""Strings → token ids, the same for prompts alone and for prompts with a label.

``WholeStringTokeniser`` tokenises whole prompts. ``SuffixTokeniser`` returns the same tokens for
prompts that begin alike, and tokenises their shared beginning only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NoReturn

from instructclf.engine.running.locks import tokenizer_state
from instructclf.exceptions import InvalidTemplateError, ScoringError
from instructclf.prompts.neutralising import SPACE, neutralise

_N_CHARACTERS_BEFORE = 200
"""How many characters before the text ``SuffixTokeniser`` begins."""
_N_EQUAL_TOKENS = 8
"""How many of the last anchor tokens must equal those of the whole prompt."""
_N_CONTEXT = 8
"""How many tokens are decoded before the first requested one: some tokenizers drop the space of
the first token that they decode."""
_BREAKERS = (SPACE, "|", "_", ".")
_NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class WholeStringTokeniser:
    """Tokenise rendered prompts, including the special tokens that belong to them.

    The tokens that a tokenizer puts before a text (a beginning-of-sequence token) are put before
    each prompt, unless the prompt already begins with them. The tokens that it puts after a text
    are left out if the model has to continue the prompt. An encoder expects them.

    Parameters
    ----------
    tokenizer : object
        A transformers tokenizer.
    frame : str
        The prompt without any text of a user. Strings of special tokens are read as special tokens
        only if this contains some, as chat templates do.
    n_embeddings : int or None, default=None
        How many tokens the model knows. ``None`` does not check for others.
    for_encoder : bool, default=False
        Whether an encoder reads the prompts.

    Raises
    ------
    ScoringError
        When called, if the model does not know a token.
    """

    def __init__(
        self,
        tokenizer: Any,
        frame: str,
        n_embeddings: int | None = None,
        *,
        for_encoder: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self._n_embeddings = n_embeddings
        self._for_encoder = for_encoder
        self.reads_special_tokens = any(
            token in frame for token in _longest_first(_special_strings(tokenizer))
        )
        bos = tokenizer.bos_token
        self._frame_has_start = bool(bos) and frame.startswith(bos)

    def __call__(self, strings: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each string."""
        start = [] if self._frame_has_start or not strings else self._frame_tokens[0]
        return [start + ids for ids in self.without_start(strings)]

    def without_start(self, strings: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each string, without the tokens put before a text."""
        if not strings:
            return []
        end = self._frame_tokens[1] if self._for_encoder else []
        return [ids + end for ids in self._encode(list(strings), special_tokens=False)]

    def labels(self, strings: Sequence[str]) -> list[list[int]]:
        """Return the token ids of labels as a decoder of their own produces them, and no more."""
        return self._encode(list(strings), special_tokens=False, of="text_target")

    @cached_property
    def label_frame(self) -> tuple[list[int], list[int]]:
        """The tokens that the tokenizer puts before and after such a label."""
        return self._find_frame(of="text_target")

    @cached_property
    def _frame_tokens(self) -> tuple[list[int], list[int]]:
        """The tokens that the tokenizer puts before and after a text."""
        return self._find_frame(of="text")

    def _find_frame(self, *, of: str) -> tuple[list[int], list[int]]:
        (bare,) = self._encode(["a"], special_tokens=False, of=of)
        (framed,) = self._encode(["a"], special_tokens=True, of=of)
        for start in range(len(framed) - len(bare) + 1):
            end = start + len(bare)
            if framed[start:end] == bare:
                return framed[:start], framed[end:]
        return [], []

    def _encode(
        self, strings: list[str], *, special_tokens: bool, of: str = "text"
    ) -> list[list[int]]:
        with tokenizer_state:
            encoded = self.tokenizer(
                **{of: strings},
                add_special_tokens=special_tokens,
                split_special_tokens=not self.reads_special_tokens,
                return_attention_mask=False,
                verbose=False,
            )
        ids: list[list[int]] = encoded["input_ids"]
        largest = max(map(max, filter(None, ids)), default=-1)
        if self._n_embeddings is not None and largest >= self._n_embeddings:
            self._refuse(largest, self._n_embeddings)
        return ids

    def _refuse(self, token: int, n_embeddings: int) -> NoReturn:
        msg = (
            f"The tokenizer gives {self.tokenizer.convert_ids_to_tokens(token)!r} the id {token}, "
            f"but the model has {n_embeddings} embeddings, for the ids 0 to {n_embeddings - 1}. "
            "Use the tokenizer that belongs to the model. If tokens were added to it, call "
            f"model.resize_token_embeddings({len(self.tokenizer)}) and train the new embeddings."
        )
        raise ScoringError(msg)


class SuffixTokeniser:
    """Tokenise prompts that begin alike, without tokenising their shared beginning again.

    Tokenizers may merge the last characters of the beginning with the first characters of a text,
    so the text cannot be tokenised alone. It is tokenised together with the last characters of the
    beginning. The tokens of these characters are the anchor. If the anchor comes out as it does in
    whole prompts, so do the tokens after it. If it does not, the whole prompt is tokenised.

    Parameters
    ----------
    tokenise : WholeStringTokeniser
        Tokenises whole prompts.
    beginning : str
        The characters that all prompts begin with.
    prefix : list of int
        The tokens that all prompts begin with.
    examples : dict of str to list of int
        The endings of some prompts (everything after ``beginning``), each with the tokens of its
        whole prompt. They show which tokens the anchor has.
    """

    def __init__(
        self,
        tokenise: WholeStringTokeniser,
        beginning: str,
        prefix: list[int],
        examples: dict[str, list[int]],
    ) -> None:
        self._tokenise = tokenise
        self._beginning = beginning
        self._prefix = prefix
        self._before = beginning[-_N_CHARACTERS_BEFORE:]
        saves_work = len(self._before) < len(beginning)
        self._anchor = self._find_anchor(examples) if saves_work else None

    def __call__(self, endings: Sequence[str]) -> list[tuple[Sequence[int], list[int]]]:
        """Return the tokens of each prompt, split after those that all prompts share.

        The shared tokens are one object for all prompts. A prompt that does not begin with them has
        no token in the first part.
        """
        tails = self._tokenise_tails(endings)
        unknown = [position for position, tail in enumerate(tails) if tail is None]
        wholes: dict[int, list[int]] = {}
        if unknown:
            ids = self._tokenise([self._beginning + endings[position] for position in unknown])
            wholes = dict(zip(unknown, ids, strict=True))
        return [
            self._split(wholes[position]) if tail is None else (self._prefix, tail)
            for position, tail in enumerate(tails)
        ]

    def _tokenise_tails(self, endings: Sequence[str]) -> list[list[int] | None]:
        """Return the tokens after the shared ones, ``None`` where the anchor is not found."""
        anchor = self._anchor
        if anchor is None:
            return [None] * len(endings)
        n_anchor = len(anchor)
        return [
            ids[n_anchor:] if len(ids) > n_anchor and ids[:n_anchor] == anchor else None
            for ids in self._tokenise_from_anchor(endings)
        ]

    def _split(self, ids: list[int]) -> tuple[Sequence[int], list[int]]:
        n_shared = len(self._prefix)
        has_prefix = len(ids) > n_shared and ids[:n_shared] == self._prefix
        return (self._prefix, ids[n_shared:]) if has_prefix else ((), ids)

    def _find_anchor(self, examples: dict[str, list[int]]) -> list[int] | None:
        """Return the tokens of the anchor, or ``None`` if the examples do not agree on them."""
        anchors = []
        for whole, ids in zip(
            examples.values(), self._tokenise_from_anchor(list(examples)), strict=True
        ):
            tail = whole[len(self._prefix) :]
            if ids[-len(tail) :] != tail:
                return None
            anchors.append(ids[: -len(tail)])
        first = anchors[0]
        if len(first) < _N_EQUAL_TOKENS or any(anchor != first for anchor in anchors):
            return None
        return first if first[-_N_EQUAL_TOKENS:] == self._prefix[-_N_EQUAL_TOKENS:] else None

    def _tokenise_from_anchor(self, endings: Sequence[str]) -> list[list[int]]:
        return self._tokenise.without_start([self._before + ending for ending in endings])


def find_end_token(tokenizer: Any, name: str | None) -> int | None:
    """Return the id of the token that ends a response. ``None`` takes the tokenizer's end token.

    Raises
    ------
    InvalidTemplateError
        If the tokenizer has no token of this name.
    """
    if name is None:
        return tokenizer.eos_token_id
    token = tokenizer.convert_tokens_to_ids(name)
    if token is None or (token == tokenizer.unk_token_id and name != tokenizer.unk_token):
        msg = (
            f"The template ends responses with {name!r}, and the tokenizer has no such token. Set "
            "the template's end_token to one of its tokens, or to None."
        )
        raise InvalidTemplateError(msg)
    return token


def control_strings(tokenizer: Any) -> tuple[str, ...]:
    """Return every token of a tokenizer that no text may contain, as text.

    These are its special tokens and the bracketed tokens that were added to its vocabulary, such as
    ``<think>``: a tokenizer finds those in any text, even where it ignores special tokens. The
    longest come first, so that a token is found before those that it contains.
    """
    bracketed = {text for text in map(str, _added_tokens(tokenizer)) if _is_bracketed(text)}
    return _longest_first(bracketed | _special_strings(tokenizer))


def find_breaker(tokenizer: Any, markers: Sequence[str]) -> str:
    """Return the string that breaks up markers: a space, unless the tokenizer drops white space.

    Put between two characters of a marker, it changes the tokens of every marker.
    """
    read = WholeStringTokeniser(tokenizer, frame="").without_start
    in_one_line, in_two_lines = read(["a b", "a\nb"])
    for breaker in _BREAKERS[in_one_line == in_two_lines :]:
        broken = [neutralise(marker, markers, breaker=breaker) for marker in markers]
        changes = zip(markers, broken, read(list(markers)), read(broken), strict=True)
        if all(before != after for marker, text, before, after in changes if text != marker):
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
    stripped = (string for string in strings if string.strip())
    return tuple(sorted(stripped, key=lambda string: (-len(string), string)))


def token_pieces(tokenizer: Any, ids: Sequence[int], before: Sequence[int] = ()) -> list[str]:
    """Return the characters that each token stands for at its position.

    A token that is only a part of a character is given by its name in the tokenizer's vocabulary.
    ``before`` holds the preceding tokens: some tokenizers leave out a text's first space.
    """
    context = list(before[-_N_CONTEXT:])
    decoded = [_decode(tokenizer, [*context, *ids[:n]]) for n in range(len(ids) + 1)]
    pieces = []
    for token, shorter, longer in zip(ids, decoded, decoded[1:], strict=False):
        piece = longer[len(shorter) :]
        is_whole = longer.startswith(shorter) and piece and _NO_CHARACTER not in piece
        pieces.append(piece if is_whole else str(tokenizer.convert_ids_to_tokens(int(token))))
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
