"""Labelled texts → solved classification prompts that fill a row of tokens."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from instructclf.prompts import get_template, write_instruction
from tools.bundled_model.concepts import CONCEPT, FEELING, GENRE, QUESTION, SUBJECT
from tools.bundled_model.units import INTENT, LEVEL, POLAR, PRODUCT, TOPIC, Units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerFast

    from tools.bundled_model.concepts import Entry

WORDING: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("wording.toml").read_text(encoding="utf-8")
)
"""Label words, definitions and instructions."""

Array = np.ndarray
SHARES = {
    POLAR: 0.45,
    LEVEL: 0.04,
    INTENT: 0.13,
    TOPIC: 0.04,
    FEELING: 0.13,
    SUBJECT: 0.08,
    CONCEPT: 0.08,
    GENRE: 0.025,
    QUESTION: 0.025,
}
"""How often each kind of task is drawn."""
SIGNS = (
    tuple("ABCDEFGHIJ"),
    tuple("abcdefghij"),
    tuple("1234567890"),
    tuple(f"class {i}" for i in range(10)),
    tuple(f"label_{i}" for i in range(10)),
)
"""Labels without a meaning."""
MARK = "\x00"
GAPS = 0.12
"""The share of a review's tokens that are left out in every other episode."""


@dataclass
class Task:
    """The instruction of an episode, and the texts of each class.

    Parameters
    ----------
    task : str or None
        The sentence that states the task.
    words : list of str
        Label words, by class.
    definitions : list of str or None
        Their definitions.
    pools : list of numpy.ndarray
        The units of each class.
    is_polar : bool, default=False
        Whether the classes are negative and positive.
    """

    task: str | None
    words: list[str]
    definitions: list[str] | None
    pools: list[Array]
    is_polar: bool = False


@dataclass
class Episode:
    """Solved prompts, token by token.

    Parameters
    ----------
    ids : list of int
        The tokens.
    marks : list of int
        1 for each token of a label.
    senses : list of float
        After a token of a review, the probability that it is positive; elsewhere not a number.
    others : list of int
        At the first token of one of two labels, the first token of the other.
    doubts : list of float
        The probability of the other label.
    """

    ids: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    senses: list[float] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)

    def add(self, ids: list[int], senses: list[float] | None = None) -> None:
        """Add tokens that do not belong to a label."""
        self.ids += ids
        self.marks += [0] * len(ids)
        self.senses += senses or [math.nan] * len(ids)
        self.others += [0] * len(ids)
        self.doubts += [0.0] * len(ids)

    def cut(self, length: int) -> Episode:
        """Return the beginning, since an instruction alone may be longer than a row."""
        return Episode(**{part.name: getattr(self, part.name)[:length] for part in fields(self)})

    def answer(self, label: list[int], other: list[int], doubt: float) -> None:
        """Add the tokens of a label, and the probability of the other one."""
        self.add(label)
        self.marks[-len(label) :] = [1] * len(label)
        if label[0] != other[0]:
            self.others[-len(label)] = other[0]
            self.doubts[-len(label)] = doubt


def weighted(rng: np.random.Generator, rows: list[tuple[str, str, float]]) -> list[str]:
    """Draw a pair of label words by weight."""
    weights = np.array([row[2] for row in rows])
    chosen = rows[int(rng.choice(len(rows), p=weights / weights.sum()))]
    return list(chosen[:2])


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """Draw one option."""
    return options[int(rng.integers(len(options)))]


def _name(entry: Entry, rng: np.random.Generator) -> str:
    """Draw a name, mostly the first."""
    return entry.names[0] if rng.random() < 0.5 else pick(rng, entry.names)


def _without_others(pools: list[Array]) -> list[Array]:
    """Return each pool without members of other pools, or unchanged if nothing would be left."""
    every, counts = np.unique(np.concatenate(pools), return_counts=True)
    shared = every[counts > 1]
    unshared = [np.setdiff1d(pool, shared) for pool in pools]
    return [rest if len(rest) else pool for rest, pool in zip(unshared, pools, strict=True)]


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
        known = {kind: len(pools) for kind, pools in units.pools.items()}
        self.kinds = [kind for kind in SHARES if known.get(kind, 0) > 1]
        shares = np.array([SHARES[kind] for kind in self.kinds])
        self.shares = shares / shares.sum()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text without the start token."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def label_ids(self, word: str) -> list[int]:
        """Return the ids of a label."""
        if word not in self.labels:
            self.labels[word] = self.encode(word)
        return self.labels[word]

    def draw_task(self, rng: np.random.Generator, length: int) -> Task:
        """Draw a task for a row of this length."""
        kind = self.kinds[int(rng.choice(len(self.kinds), p=self.shares))]
        if kind == POLAR:
            return self.polarity(rng, length)
        if kind == LEVEL:
            return self.levels(rng)
        if kind == INTENT:
            return self.intents(rng, length)
        if kind == TOPIC:
            return self.topics(rng, length)
        return self.meanings(kind, rng, length)

    def polarity(self, rng: np.random.Generator, length: int) -> Task:
        """Draw a two-class sentiment with varied words and definitions."""
        symbols = rng.random() < (0.08 if length < 1000 else 0.12)
        words = weighted(rng, WORDING["symbols" if symbols else "polarity_words"])
        draw = rng.random()
        if draw < 0.12:
            words = [word.capitalize() for word in words]
        elif draw < 0.15:
            words = [word.upper() for word in words]
        defined = rng.random() < (0.9 if symbols else 0.65)
        definitions = None
        if defined and rng.random() < 0.75:
            subject = pick(rng, WORDING["subjects"])
            definitions = [f"{subject} {end}" for end in pick(rng, WORDING["predicates"])]
        elif defined:
            definitions = list(pick(rng, WORDING["sentences"]))
        if symbols and rng.random() < 0.4:
            words.reverse()
        task = self.draw_instruction(rng, WORDING["polarity_tasks"])
        pools = self.units.pools[PRODUCT if rng.random() < 0.7 else POLAR]
        return Task(task, words, definitions, pools, is_polar=True)

    def draw_instruction(self, rng: np.random.Generator, of_kind: Sequence[str]) -> str | None:
        """Draw a sentence of this kind of task, or one for any task; ``None`` is the default."""
        if rng.random() < 0.5:
            return pick(rng, of_kind)
        return None if rng.random() < 0.75 else pick(rng, WORDING["any_task"])

    def levels(self, rng: np.random.Generator) -> Task:
        """Draw five or three levels of sentiment."""
        pools = self.units.pools[LEVEL]
        words = list(WORDING["level_words"][0 if rng.random() < 0.5 else rng.integers(6)])
        definitions = list(WORDING["level_definitions"]) if rng.random() < 0.5 else None
        task = self.draw_instruction(rng, WORDING["level_tasks"])
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
        task = self.draw_instruction(rng, WORDING["intent_tasks"])
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
            definitions = [WORDING["topic_definitions"][names[i]] for i in chosen]
        task = self.draw_instruction(rng, WORDING["topic_tasks"])
        return Task(task, words, definitions, [pools[i] for i in chosen])

    def meanings(self, kind: str, rng: np.random.Generator, length: int) -> Task:
        """Draw a few meanings without common words, with names or signs, perhaps defined."""
        entries, pools = self.units.entries[kind], self.units.pools[kind]
        most = min(len(entries), 6 if length < 500 else 10 if length < 2000 else 16)
        wanted = min(most, 2 + int(rng.geometric(0.3)) - 1)
        chosen: list[int] = []
        taken: set[str] = set()
        for i in rng.permutation(len(entries))[: 4 * wanted]:
            if len(chosen) < wanted and taken.isdisjoint(entries[i].words):
                chosen.append(int(i))
                taken |= entries[i].words
        named = rng.random() < 0.85 or len(chosen) > len(SIGNS[0])
        words = [_name(entries[i], rng) for i in chosen] if named else list(pick(rng, SIGNS))
        style = rng.random()
        if named and style < 0.25:
            words = [word.capitalize() if style < 0.18 else word.upper() for word in words]
        definitions = None
        if rng.random() < (0.5 if named else 0.85):
            definitions = self._define(kind, chosen, rng)
        task = self.draw_instruction(rng, WORDING["meaning_tasks"][kind])
        pools = _without_others([pools[i] for i in chosen])
        return Task(task, words[: len(chosen)], definitions, pools)

    def _define(self, kind: str, chosen: list[int], rng: np.random.Generator) -> list[str]:
        """Return definitions of one style: sentences, typical words, or an example."""
        entries, pools = self.units.entries[kind], self.units.pools[kind]
        style = rng.random()
        if style < 0.15:
            return [self.example(rng, pools[i]) for i in chosen]
        if style < 0.45 and kind not in {GENRE, QUESTION}:
            n = int(rng.integers(2, 6))
            return [", ".join(rng.permutation(sorted(entries[i].words))[:n]) for i in chosen]
        who = pick(rng, WORDING["subjects"][:-1])
        return [pick(rng, entries[i].definitions).replace("{}", who) for i in chosen]

    def compose(self, rng: np.random.Generator, length: int) -> Episode:
        """Write one episode of at most so many tokens."""
        task = self.draw_task(rng, length)
        order = rng.permutation(len(task.words))
        definitions = task.definitions and [task.definitions[i] for i in order]
        stated = write_instruction(task.task, [task.words[i] for i in order], definitions)
        episode = Episode()
        episode.add([self.tokenizer.bos_token_id, *self.encode(self.head + stated)])
        share = rng.dirichlet(np.full(len(order), 5.0))
        around = len(self.separator_ids) + len(self.cue_ids)
        misses = 0
        gaps = GAPS if task.is_polar and rng.random() < 0.5 else 0.0
        while misses < 3:
            label = int(rng.choice(len(share), p=share))
            pool = task.pools[label]
            unit = int(pool[rng.integers(len(pool))])
            text, senses = self._read(unit, gaps, rng)
            answer = self.label_ids(task.words[label])
            if len(episode.ids) + len(text) + len(answer) + around + 1 > length:
                misses += 1
                continue
            episode.add(self.separator_ids)
            episode.add(text, senses)
            episode.add(self.cue_ids)
            other = self.label_ids(task.words[1 - label]) if task.is_polar else answer
            episode.answer(answer, other, float(self.units.doubts[unit]))
        if any(episode.marks):
            episode.add([self.tokenizer.eos_token_id])
        return episode.cut(length)

    def _read(
        self, unit: int, gaps: float, rng: np.random.Generator
    ) -> tuple[list[int], list[float]]:
        """Return the tokens of a text and their senses, without some of them."""
        text, senses = self.units.text(unit), self.units.sense(unit)
        if gaps:
            kept = np.flatnonzero(rng.random(len(text)) > gaps)
            return np.array(text)[kept].tolist(), senses[kept].tolist()
        return text, senses.tolist()
