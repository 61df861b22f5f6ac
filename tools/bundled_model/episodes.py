"""Compose solved classification prompts that fill a row of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import wording
from units import INTENT, LEVEL, POLAR, PRODUCT, TOPIC, Units

from instructclf.prompts import get_template, write_instruction

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Array = np.ndarray
MARK = "\x00"
GAPS = 0.12
"""The share of a review's tokens that are left out in every other episode."""


@dataclass
class Task:
    """What an episode asks: a task, labels, perhaps definitions, and where texts come from.

    Parameters
    ----------
    task : str or None
        The user's sentence.
    words : list of str
        Label words, by class.
    definitions : list of str or None
        What each means.
    pools : list of numpy.ndarray
        The units of each class.
    senses : tuple of int, default=()
        The sentiment of each class, 1 or 2, where it has one.
    """

    task: str | None
    words: list[str]
    definitions: list[str] | None
    pools: list[Array]
    senses: tuple[int, ...] = ()


@dataclass
class Episode:
    """Solved prompts, token by token.

    Parameters
    ----------
    ids : list of int
        The tokens.
    marks : list of int
        1 for each token of a label.
    senses : list of int
        The sentiment of the text that a token belongs to, 1 or 2; 0 for any other token.
    """

    ids: list[int]
    marks: list[int]
    senses: list[int]


def weighted(rng: np.random.Generator, rows: tuple[tuple[str, str, float], ...]) -> list[str]:
    """Draw a pair of label words by weight."""
    weights = np.array([row[2] for row in rows])
    chosen = rows[int(rng.choice(len(rows), p=weights / weights.sum()))]
    return list(chosen[:2])


def pick(rng: np.random.Generator, options: tuple) -> object:
    """Draw one option."""
    return options[int(rng.integers(len(options)))]


class Composer:
    """Draws tasks and writes episodes.

    Parameters
    ----------
    units : Units
        The labelled texts.
    tokenizer : transformers.PreTrainedTokenizerFast
        The tokenizer.
    """

    def __init__(self, units: Units, tokenizer: PreTrainedTokenizerFast) -> None:
        self.units = units
        self.tokenizer = tokenizer
        probe = get_template("alpaca").render(MARK, MARK, [(MARK, MARK)])
        self.head, self.separator, self.cue, between, _ = probe.split(MARK)
        if between != self.separator:
            raise ValueError(between)
        self.separator_ids = self.encode(self.separator)
        self.cue_ids = self.encode(self.cue)
        self.labels: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text without the first token."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def label_ids(self, word: str) -> list[int]:
        """Return the ids of a label."""
        if word not in self.labels:
            self.labels[word] = self.encode(word)
        return self.labels[word]

    def draw_task(self, rng: np.random.Generator, length: int) -> Task:
        """Draw a task that suits a row of a length."""
        draw = rng.random()
        if draw < 0.74:
            return self.polarity(rng, length)
        if draw < 0.82:
            return self.levels(rng)
        if draw < 0.93:
            return self.intents(rng, length)
        return self.topics(rng, length)

    def polarity(self, rng: np.random.Generator, length: int) -> Task:
        """Draw a two-class sentiment with varied words and definitions."""
        symbols = rng.random() < (0.08 if length < 1000 else 0.12)
        words = weighted(rng, wording.SYMBOLS if symbols else wording.POLARITY_WORDS)
        draw = rng.random()
        if draw < 0.12:
            words = [word.capitalize() for word in words]
        elif draw < 0.15:
            words = [word.upper() for word in words]
        defined = rng.random() < (0.9 if symbols else 0.65)
        definitions = None
        if defined and rng.random() < 0.75:
            subject = pick(rng, wording.SUBJECTS)
            definitions = [f"{subject} {end}" for end in pick(rng, wording.PREDICATES)]
        elif defined:
            definitions = list(pick(rng, wording.SENTENCES))
        if symbols and rng.random() < 0.4:
            words.reverse()
        task = pick(rng, wording.POLARITY_TASKS) if rng.random() < 0.5 else self.plain(rng)
        pools = self.units.pools[PRODUCT if rng.random() < 0.7 else POLAR]
        return Task(task, words, definitions, pools, (1, 2))

    def plain(self, rng: np.random.Generator) -> str | None:
        """Draw a sentence that fits any task, mostly the default."""
        return None if rng.random() < 0.75 else pick(rng, wording.PLAIN)

    def levels(self, rng: np.random.Generator) -> Task:
        """Draw five or three levels of sentiment."""
        pools = self.units.pools[LEVEL]
        words = list(wording.LEVEL_WORDS[0 if rng.random() < 0.5 else rng.integers(6)])
        definitions = list(wording.LEVEL_DEFINITIONS) if rng.random() < 0.5 else None
        task = pick(rng, wording.LEVEL_TASKS) if rng.random() < 0.5 else self.plain(rng)
        if rng.random() < 0.4:
            keep = [1, 2, 3] if words[0] == "very negative" else [0, 2, 4]
            words = [words[i] for i in keep]
            definitions = definitions and [definitions[i] for i in keep]
            pools = [np.concatenate(pools[:2]), pools[2], np.concatenate(pools[3:])]
        return Task(task, words, definitions, pools)

    def intents(self, rng: np.random.Generator, length: int) -> Task:
        """Draw a few intents, named, some defined by an example."""
        names, pools = self.units.names[INTENT], self.units.pools[INTENT]
        most = 5 if length < 500 else 12 if length < 2000 else 24
        chosen = rng.permutation(len(names))[: int(rng.integers(2, most + 1))]
        raw = rng.random() < 0.25
        words = [names[i] if raw else names[i].replace("_", " ") for i in chosen]
        definitions = None
        if rng.random() < 0.35:
            definitions = [self.example(rng, pools[i]) for i in chosen]
        task = pick(rng, wording.INTENT_TASKS) if rng.random() < 0.5 else self.plain(rng)
        return Task(task, words, definitions, [pools[i] for i in chosen])

    def example(self, rng: np.random.Generator, pool: Array) -> str:
        """Return a text of a class as its definition."""
        return self.tokenizer.decode(self.units.text(int(pool[rng.integers(len(pool))])))

    def topics(self, rng: np.random.Generator, length: int) -> Task:
        """Draw a few kinds of article."""
        names, pools = self.units.names[TOPIC], self.units.pools[TOPIC]
        most = 5 if length < 500 else 14
        chosen = rng.permutation(len(names))[: int(rng.integers(2, most + 1))]
        lower = rng.random() < 0.5
        words = [names[i].lower() if lower else names[i] for i in chosen]
        definitions = None
        if rng.random() < 0.5:
            definitions = [wording.TOPIC_DEFINITIONS[names[i]] for i in chosen]
        task = pick(rng, wording.TOPIC_TASKS) if rng.random() < 0.5 else self.plain(rng)
        return Task(task, words, definitions, [pools[i] for i in chosen])

    def compose(self, rng: np.random.Generator, length: int) -> Episode:
        """Write one episode.

        Parameters
        ----------
        rng : numpy.random.Generator
            The source of chance.
        length : int
            The tokens to fill.

        Returns
        -------
        Episode
            The ids and what they are.
        """
        task = self.draw_task(rng, length)
        order = rng.permutation(len(task.words))
        definitions = task.definitions and [task.definitions[i] for i in order]
        stated = write_instruction(task.task, [task.words[i] for i in order], definitions)
        ids = [self.tokenizer.bos_token_id, *self.encode(self.head + stated)]
        marks, senses = [0] * len(ids), [0] * len(ids)
        share = rng.dirichlet(np.full(len(order), 5.0))
        room = length - len(ids) - len(self.separator_ids) - len(self.cue_ids) - 1
        misses = 0
        gaps = GAPS if task.senses and rng.random() < 0.5 else 0.0
        while misses < 3:
            label = int(rng.choice(len(share), p=share))
            pool = task.pools[label]
            unit = int(pool[rng.integers(len(pool))])
            text = self.units.text(unit)
            if gaps:
                text = np.array(text)[rng.random(len(text)) > gaps].tolist()
            if task.senses and rng.random() < self.units.doubts[unit]:
                label = 1 - label  # what the teacher doubts has the other label as often
            answer = self.label_ids(task.words[label])
            need = len(text) + len(answer) + len(self.separator_ids) + len(self.cue_ids)
            if need > room:
                misses += 1
                continue
            before = [*self.separator_ids, *text, *self.cue_ids]
            ids += [*before, *answer]
            marks += [0] * len(before) + [1] * len(answer)
            sense = task.senses[label] if task.senses else 0
            tail = len(self.cue_ids) + len(answer)
            senses += [0] * len(self.separator_ids) + [sense] * len(text) + [0] * tail
            room -= need
        if any(marks):
            ids.append(self.tokenizer.eos_token_id)
            marks.append(0)
            senses.append(0)
        return Episode(ids[:length], marks[:length], senses[:length])
