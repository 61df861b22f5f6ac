"""Questions → the lines of a response: one for each, and one that lists the labels of a text.

A list is read at its beginning: how likely a label is to come first. So labels of one token cost
nothing beside the text, and the model weighs them against each other. Shots list their labels in an
order that depends on the text alone, so that no label is first more often than others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from instructclf.prompts.instructions import state_answers, state_list

BETWEEN = ": "
"""What stands between a question and its answer."""
_LISTED = "labels"
"""What a line with a list is called, if there are other lines."""
_NOTHING = ("none", "nothing", "no label")
"""What a list without labels says: the first that is no label."""

Words = tuple[tuple[str, ...], ...]


class Line(Protocol):
    """A line of the response."""

    @property
    def questions(self) -> tuple[int, ...]:
        """The positions of the questions that it answers."""
        ...

    @property
    def label_words(self) -> Words:
        """The answers that may follow the prompt, one entry for each thing the line may say."""
        ...

    @property
    def statement(self) -> str:
        """What the instruction says of it, one line or several."""
        ...

    def write(self, text: str, codes: Sequence[int]) -> str:
        """Return the line about a text, from the position of each question's answer."""
        ...


@dataclass(frozen=True)
class AnswerLine:
    """A line that answers one question.

    Parameters
    ----------
    question : int
        Its position.
    name : str
        What it is called.
    words : tuple of tuple of str
        The answers of each label, the preferred one first.
    sentences : tuple of (str or None) or None
        The definition of each label.
    """

    question: int
    name: str
    words: Words
    sentences: Sequence[str | None] | None

    @property
    def questions(self) -> tuple[int, ...]:
        """The position of the question."""
        return (self.question,)

    @property
    def label_words(self) -> Words:
        """The answers of each label, after the name of the question."""
        return tuple(tuple(f"{self.name}{BETWEEN}{word}" for word in own) for own in self.words)

    @property
    def statement(self) -> str:
        """The labels, and the definition of each."""
        return state_answers(self.name, [own[0] for own in self.words], self.sentences)

    def write(self, text: str, codes: Sequence[int]) -> str:  # noqa: ARG002
        """Return the answer."""
        return self.label_words[codes[self.question]][0]


@dataclass(frozen=True)
class ListLine:
    """A line that lists the labels of a text: those columns of 0 and 1 that are 1.

    Parameters
    ----------
    questions : tuple of int
        The positions of the columns.
    names : tuple of str
        The labels.
    sentences : tuple of (str or None)
        Their definitions.
    is_only : bool
        Whether the response has no other line. Then it has no name.
    """

    questions: tuple[int, ...]
    names: tuple[str, ...]
    sentences: Sequence[str | None]
    is_only: bool

    @property
    def label_words(self) -> Words:
        """The beginnings of the line with each label, and with none, which is the last."""
        return (*(tuple(self._begin(name)) for name in self.names), (self._after(self.nothing),))

    @property
    def statement(self) -> str:
        """The labels, and the definition of each."""
        name = None if self.is_only else _LISTED
        return state_list(name, self.names, self.sentences, self.nothing)

    @property
    def nothing(self) -> str:
        """What the line says without labels."""
        return next(word for word in _NOTHING if word not in self.names)

    def write(self, text: str, codes: Sequence[int]) -> str:
        """Return the list."""
        own = [n for n, column in zip(self.names, self.questions, strict=True) if codes[column]]
        in_order = sorted(own, key=lambda name: _hash(f"{name}\n{text}"))
        return self._after(", ".join(in_order) or self.nothing)

    def _begin(self, name: str) -> list[str]:
        # Where a label begins another one, it has to end to be told apart: with the list, or before
        # the next label.
        begins_another = any(other != name and other.startswith(name) for other in self.names)
        return [self._after(name), *([self._after(f"{name},")] if begins_another else [])]

    def _after(self, words: str) -> str:
        return words if self.is_only else f"{_LISTED}{BETWEEN}{words}"


def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()
