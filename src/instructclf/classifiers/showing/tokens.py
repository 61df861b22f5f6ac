"""Token scores of one text → a table of what is scored for each label, as text and as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from instructclf.classifiers.showing.characters import with_glyphs
from instructclf.classifiers.showing.tokens_html import write_tokens
from instructclf.engine.interfaces import ScoredToken, ScoredTokens

HEADER = ("label", "token", "id", "log p", "p", "remark")
_SMALL = 1e-3
"""Probabilities less than this are written with an exponent."""
_N_NAMED = 3
"""Labels that a token is shared with are named up to this number."""


def look_at_tokens(scored: ScoredTokens, answers: Sequence[tuple[Any, str]]) -> ShownTokens:
    """Return the tokens that are scored after the prompt of a text, to be shown."""
    labels = [label for label, _ in answers]
    return ShownTokens(
        labels=tuple(
            ShownLabel(label, words, tuple(_show_token(token, label, labels) for token in tokens))
            for (label, words), tokens in zip(answers, scored.answers, strict=True)
        ),
        n_prompt_tokens=scored.n_prompt_tokens,
        n_shared_tokens=scored.n_shared_tokens,
        prompt_end=scored.prompt_end,
        was_cut=scored.was_cut,
    )


def _show_token(token: ScoredToken, label: Any, labels: Sequence[Any]) -> ShownToken:
    # Answers of one label share tokens too, which says nothing about other labels.
    sharers = tuple(labels[answer] for answer in token.sharers if labels[answer] != label)
    return ShownToken(token.id, token.piece, token.log_likelihood, token.is_end, sharers)


@dataclass(frozen=True)
class ShownToken:
    """A token that is scored for a label.

    Parameters
    ----------
    id : int
        The token's id.
    piece : str
        The characters it stands for.
    log_likelihood : float
        Its log-probability after the prompt and the label's tokens before it.
    is_end : bool
        Whether it is the end token, which only a label has that is the beginning of another.
    shared_with : tuple of label
        Other labels that begin with the same tokens up to this one, which is scored once for all.
    """

    id: int
    piece: str
    log_likelihood: float
    is_end: bool
    shared_with: tuple[Any, ...]


@dataclass(frozen=True)
class ShownLabel:
    """What is scored for a label.

    Parameters
    ----------
    label : label
        The label, as it is in ``classes_``.
    words : str
        The words the model answers with.
    tokens : tuple of ShownToken
        Their tokens after the prompt.
    """

    label: Any
    words: str
    tokens: tuple[ShownToken, ...]

    @property
    def log_likelihood(self) -> float:
        """The sum over its tokens: of an only answer, the entry of ``label_log_likelihood``."""
        return math.fsum(token.log_likelihood for token in self.tokens)


@dataclass(frozen=True)
class ShownTokens:
    """The tokens that are scored after the prompt of one text.

    Printed, and in a notebook, it is a table.

    Parameters
    ----------
    labels : tuple of ShownLabel
        What is scored for each answer of each label, in the order of ``classes_``.
    n_prompt_tokens : int
        How many tokens come before them.
    n_shared_tokens : int
        How many of these are computed once for several texts.
    prompt_end : tuple of str
        The last tokens of the prompt, as the characters they stand for.
    was_cut : bool
        Whether the text was cut to fit.
    """

    labels: tuple[ShownLabel, ...]
    n_prompt_tokens: int
    n_shared_tokens: int
    prompt_end: tuple[str, ...]
    was_cut: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about the table, in sentences."""
        end = " ".join(with_glyphs(piece) for piece in self.prompt_end)
        cut = " The text was cut to fit." if self.was_cut else ""
        notes = [
            f"The prompt has {self.n_prompt_tokens} tokens, of which {self.n_shared_tokens} are "
            f"computed once for all texts.{cut} Its last ones: {end}",
            "p: how probable a token is after the prompt and the tokens above it. Sums are label "
            "log-likelihoods, before calibration.",
        ]
        if not any(token.is_end for own in self.labels for token in own.tokens):
            notes.append("No label is the beginning of another, so no end token is scored.")
        return tuple(notes)

    def rows(self) -> list[list[tuple[str, ...]]]:
        """Return the cells of the table, a list of rows for each label, its sum in the last."""
        return [[*map(_token_row, _named(own), own.tokens), _sum_row(own)] for own in self.labels]

    def __str__(self) -> str:
        rows = [HEADER, *(row for own in self.rows() for row in own)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [_align(row, widths) for row in rows]
        return "\n".join([*lines, "", *self.notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return write_tokens(HEADER, self.rows(), self.notes)


def _named(label: ShownLabel) -> list[str]:
    return [with_label_words(label), *[""] * (len(label.tokens) - 1)]


def with_label_words(label: ShownLabel) -> str:
    """Return a label, with its words where they say something else."""
    name = str(label.label)
    return name if name == label.words else f"{name} ({label.words})"


def _token_row(name: str, token: ShownToken) -> tuple[str, ...]:
    numbers = _write_numbers(token.log_likelihood)
    return name, with_glyphs(token.piece), str(token.id), *numbers, _remark(token)


def _remark(token: ShownToken) -> str:
    if token.is_end:
        return "end token: these words begin another label"
    if token.shared_with:
        n_others = len(token.shared_with) - _N_NAMED
        others = f" and {n_others} more" if n_others > 0 else ""
        return f"shared with {', '.join(map(str, token.shared_with[:_N_NAMED]))}{others}"
    return ""


def _sum_row(label: ShownLabel) -> tuple[str, ...]:
    return "", "sum", "", *_write_numbers(label.log_likelihood), ""


def _write_numbers(log_likelihood: float) -> tuple[str, str]:
    probability = math.exp(log_likelihood)
    is_small = probability < _SMALL
    return f"{log_likelihood:.4f}", f"{probability:.1e}" if is_small else f"{probability:.4f}"


def _align(row: Sequence[str], widths: Sequence[int]) -> str:
    label, token, *numbers, remark = (
        cell.rjust(width) if position in {2, 3, 4} else cell.ljust(width)
        for position, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([label, token, *numbers, remark]).rstrip()
