"""What a classifier asks of a language model: the seam between classifiers and engines.

A classifier hands over a `Question` and reads label log-likelihoods, or an adapter. It sees no
model, no tokenizer and no tensor, so another engine is one new folder: an object with the methods
of `LanguageModel`, passed to a classifier as ``model``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from instructclf.engine.running.progress import Progress
from instructclf.prompts import Prompt, PromptTemplate

Demonstrations = tuple[tuple[str, str], ...]
"""Solved examples, pairs of a text and its label words."""


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt that waits for a text, and the answers that may follow it.

    Parameters
    ----------
    prompt : Prompt
        Template, instruction and demonstrations.
    label_words : tuple of tuple of str
        The answers of each label, the preferred one first.
    max_length : int or None
        The most tokens of a prompt with its label. ``None`` for no limit.
    demonstrations_for : callable or None, default=None
        Takes texts and returns the demonstrations of each. ``None`` where all texts have those of
        the prompt.
    groups : tuple of int, default=()
        How many labels, in their order, are the answers of each of several questions. An answer is
        then scored among those of its question, whose likelihoods sum to 1. Empty for one question,
        whose answers are scored among everything that the model could say.
    """

    prompt: Prompt
    label_words: tuple[tuple[str, ...], ...]
    max_length: int | None
    demonstrations_for: Callable[[Sequence[str]], Sequence[Demonstrations]] | None = None
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class FilledPrompt:
    """The prompt of one text, cut to fit.

    Parameters
    ----------
    prompt : Prompt
        The prompt.
    text : str
        The text as it stands in the prompt.
    n_tokens : int
        How many tokens the model reads, without a label.
    """

    prompt: Prompt
    text: str
    n_tokens: int


@dataclass(frozen=True)
class ScoredToken:
    """A token that is scored for an answer.

    Parameters
    ----------
    id : int
        The token's id.
    piece : str
        The characters it stands for.
    log_likelihood : float
        Its log-probability after the prompt and the answer's tokens before it.
    is_end : bool
        Whether it is the end token, which is scored only for an answer that begins another one.
    sharers : tuple of int
        Positions of the other answers that begin with the same tokens up to this one.
    """

    id: int
    piece: str
    log_likelihood: float
    is_end: bool
    sharers: tuple[int, ...]


@dataclass(frozen=True)
class ScoredTokens:
    """The tokens that are scored after the prompt of one text.

    Parameters
    ----------
    answers : tuple of tuple of ScoredToken
        The tokens of each answer of each label.
    n_prompt_tokens : int
        How many tokens come before them.
    n_shared_tokens : int
        How many of these are computed once for all texts.
    prompt_end : tuple of str
        The last tokens of the prompt, as the characters they stand for.
    was_cut : bool
        Whether the text was cut to fit.
    """

    answers: tuple[tuple[ScoredToken, ...], ...]
    n_prompt_tokens: int
    n_shared_tokens: int
    prompt_end: tuple[str, ...]
    was_cut: bool


class LabelScorer(Protocol):
    """Scores the answers of one question. The first method is all that predictions need."""

    def score(
        self, texts: Sequence[str], progress: Progress | None = None, *, relative: bool = False
    ) -> NDArray[np.float64]:
        """Return ``log p(label | prompt)`` of each text, of shape (n_texts, n_labels).

        With several questions, it is ``log p(label | prompt, one of the question's labels)``. With
        ``relative``, all scores of a text may be shifted by the same number, if that saves work:
        it changes no probability of a label among the labels.
        """
        ...

    def score_demonstrations(
        self, progress: Progress | None = None, *, relative: bool = False
    ) -> NDArray[np.float64]:
        """Score each demonstration after a prompt that holds all others with another text."""
        ...

    def fill_prompt(self, text: str) -> FilledPrompt:
        """Return the prompt of a text, cut to fit."""
        ...

    def read_tokens(self, text: str) -> ScoredTokens:
        """Score each token of each answer: the terms of the sums that ``score`` returns."""
        ...


class StateReader(Protocol):
    """Reads the last hidden state at the end of each prompt."""

    @property
    def n_channels(self) -> int:
        """How many numbers a state has."""
        ...

    def read(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[Any]:
        """Return the states, of shape (n_texts, n_channels)."""
        ...

    def fill_prompt(self, text: str) -> FilledPrompt:
        """Return the prompt of a text, cut to fit."""
        ...


@dataclass(frozen=True)
class LabelledTexts:
    """What an adapter is tuned on.

    Parameters
    ----------
    texts : list of str
        The texts.
    codes : ndarray of shape (n_texts,)
        The position of each text's label.
    weights : ndarray of shape (n_texts,) or None
        How much each text counts. ``None`` for 1.
    """

    texts: list[str]
    codes: NDArray[np.intp]
    weights: NDArray[np.float64] | None


class Tuned(NamedTuple):
    """What tuning gives."""

    adapter: Any
    """The adapter, with its weights."""
    record: Any
    """The losses of its training, and why it stopped."""
    scorer: LabelScorer
    """Scores the question with the adapter that was just trained."""


class LanguageModel(Protocol):
    """A language model as classifiers see it.

    `tune` is asked for by `InstructionTunedClassifier` alone; the last three are asked for when a
    classifier is saved, loaded or exported. A model that reads the alternatives of a prompt side by
    side says so with an attribute ``reads_side_by_side`` that is true; without it, unordered labels
    are an error.
    """

    @property
    def name(self) -> str:
        """Where the model came from."""
        ...

    @property
    def context_length(self) -> int | None:
        """The most tokens of a prompt. ``None`` where nothing limits it."""
        ...

    def chat_template(self) -> PromptTemplate:
        """Return the model's chat template."""
        ...

    def protect(self, prompt: Prompt) -> Prompt:
        """Return the prompt with all that keeps texts from being read as special tokens."""
        ...

    def fit_demonstrations(self, question: Question, texts: Sequence[str]) -> Question:
        """Cut demonstrations so that prompts with texts like these fit the context."""
        ...

    def label_scorer(self, question: Question, adapter: Any = None) -> LabelScorer:
        """Return what scores the answers of a question, with an adapter or without."""
        ...

    def state_reader(self, question: Question) -> StateReader:
        """Return what reads hidden states at the end of prompts."""
        ...

    def tune(
        self,
        question: Question,
        rows: LabelledTexts,
        *,
        adapter: Any,
        training: Any,
        seeds: tuple[int, int],
        start: Any = None,
        checkpoints: Path | None = None,
        verbose: int | bool = 0,
    ) -> Tuned:
        """Train an adapter on rows, as `instructclf.engine.local_models.LocalModel.tune` says."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells this model from any other, in JSON's types."""
        ...

    def write_adapter(self, adapter: Any, folder: Path, model_name: str) -> None:
        """Write an adapter into a folder."""
        ...

    def export(self, adapter: Any, folder: Path) -> None:
        """Write model and adapter as one model into a folder."""
        ...
