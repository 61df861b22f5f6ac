"""Labelled texts as token ids: reviews cut, varied and judged by the teacher, intents, articles."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tools.bundled_model.sources import (
    FILMS,
    PRODUCTS,
    detokenise,
    is_tokenised,
    read_labelled,
    read_polar,
)
from tools.bundled_model.teacher import Teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

    from tools.bundled_model.concepts import Entry, Found

    Keep = Callable[[list[str]], list[bool]]

LOG = logging.getLogger(__name__)
POLAR, PRODUCT, LEVEL, INTENT, TOPIC = "polarity", "product", "level", "intent", "topic"
WINDOW = "window"
LEVELS = ("very negative", "negative", "neutral", "positive", "very positive")
REVIEWS = ("imdb", "yelp5", "mr", "sst5")
PURCHASES = ("yelp5", PRODUCTS)
CUTS = {"imdb": 4, "yelp5": 6, "mr": 1, "sst5": 1, PRODUCTS: 6, FILMS: 2}
"""Windows of each review."""
UNLABELLED = (PRODUCTS, FILMS)
HELD_OUT = 500
"""Rows of each labelled set that are held out of training."""
KEPT_OUT = 20
"""One in so many texts of many meanings is kept out of training."""
DOUBT = 0.2
"""A labelled window that the teacher finds less probable than this is left out."""
TRUST = 0.5
"""How much a label counts against the teacher's judgement."""
ENCODED = 10_000
MEDIAN_WORDS = 65
TITLE_WORDS = (1, 9)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_PUNCTUATION = re.compile(r"(?!')[^\w\s]|\B'|'\B")
Pair = tuple[str, int]
Cut = tuple[str, int, float]


@dataclass
class Units:
    """Texts as ids and, for every kind of task, the texts of each class.

    Parameters
    ----------
    ids : numpy.ndarray
        The ids of all texts in one row.
    starts : numpy.ndarray
        Where each text starts, and the end.
    pools : dict
        For each kind, an array of texts for each class.
    names : dict
        For each kind, the names of the classes.
    entries : dict
        For each kind of `concepts`, the meanings of its classes.
    held : dict
        For each of these kinds, the texts of each class that are kept out of training.
    doubts : numpy.ndarray
        For each text, the probability that it belongs to the other one of two classes.
    senses : numpy.ndarray
        For each id of a review, the probability, up to there, that the review is positive.
    """

    ids: np.ndarray
    starts: np.ndarray
    pools: dict[str, list[np.ndarray]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    held: dict[str, list[np.ndarray]] = field(default_factory=dict)
    doubts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    senses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float16))

    def text(self, index: int) -> list[int]:
        """Return the ids of a text."""
        return self.ids[self.starts[index] : self.starts[index + 1]].tolist()

    def sense(self, index: int) -> np.ndarray:
        """Return the senses of the ids of a text."""
        return self.senses[self.starts[index] : self.starts[index + 1]]


def build_units(
    data: Path,
    texts: dict[str, list[str]],
    found: Found,
    tokenizer: PreTrainedTokenizerFast,
    keep: Keep,
) -> Units:
    """Return every labelled text, and the texts of many meanings that were found.

    Parameters
    ----------
    data : pathlib.Path
        The folder of the raw data.
    texts : dict
        Unlabelled texts by source.
    found : Found
        Texts of many meanings.
    tokenizer : transformers.PreTrainedTokenizerFast
        The tokenizer.
    keep : callable
        Takes a list of texts, returns which may be used.
    """
    reviews = {name: _filter(split_held_out(read_polar(data, name))[0], keep) for name in REVIEWS}
    teacher = fit_teacher(reviews, texts[PRODUCTS])
    cuts = cut_reviews(reviews, texts, teacher)
    films = [name for name in cuts if name not in PURCHASES]
    polar = [cut for name in (*films, *PURCHASES) for cut in cuts[name]]
    rng = np.random.default_rng(5)
    groups: dict[str, list[tuple[str, object]]] = {
        POLAR: [cut[:2] for cut in polar],
        LEVEL: _read_levels(data, keep, rng),
    }
    for kind, name in ((INTENT, "clinc150"), (TOPIC, "dbpedia14")):
        rows = split_held_out(read_labelled(data, name))[0]
        groups[kind] = [(" ".join(x.split(" ")[:120]), y) for x, y in _filter(rows, keep)]
    groups[WINDOW] = [(vary_typing(text, rng), 0) for text in found.windows]
    units = _encode(groups, tokenizer)
    _add_meanings(units, found)
    units.doubts = np.zeros(len(units.starts) - 1, np.float32)
    units.doubts[: len(polar)] = [cut[2] for cut in polar]
    units.senses = _sense(groups[POLAR], units, teacher, tokenizer)
    first = sum(len(cuts[name]) for name in films)
    units.pools[PRODUCT] = [pool[pool >= first] for pool in units.pools[POLAR]]
    return units


def _read_levels(data: Path, keep: Keep, rng: np.random.Generator) -> list[tuple[str, object]]:
    """Return reviews with five levels of sentiment, varied."""
    found: list[tuple[str, object]] = []
    for name in ("sst5", "yelp5"):
        held = {text for text, _ in split_held_out(read_polar(data, name))[1]}
        rows = _filter([row for row in read_labelled(data, name) if row[0] not in held], keep)
        found += [(vary_review(" ".join(x.split(" ")[:200]), rng), y) for x, y in rows]
    return found


def split_held_out(rows: list) -> tuple[list, list]:
    """Return the rows to train on and those held out, which are always the same."""
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[i] for i in order[HELD_OUT:]], [rows[i] for i in order[:HELD_OUT]]


def fit_teacher(reviews: dict[str, list[Pair]], products: list[str]) -> Teacher:
    """Train the teacher on labelled reviews and windows of them, then on product reviews."""
    rng = np.random.default_rng(0)
    pairs = [pair for rows in reviews.values() for pair in rows]
    for name in ("imdb", "yelp5"):
        pairs += [(cut_window(x, draw_length(rng), rng), y) for x, y in reviews[name]]
    teacher = Teacher()
    teacher.fit([x for x, _ in pairs], [y for _, y in pairs], products)
    return teacher


def cut_reviews(
    reviews: dict[str, list[Pair]], texts: dict[str, list[str]], teacher: Teacher
) -> dict[str, list[Cut]]:
    """Cut reviews, and keep the windows that the teacher does not contradict.

    Returns
    -------
    dict
        For each source the windows, varied, with their sentiment and how doubtful it is.
    """
    rng = np.random.default_rng(1)
    found: dict[str, list[Cut]] = {}
    sources = {**reviews, **{name: [(x, -1) for x in texts[name]] for name in UNLABELLED}}
    for name, rows in sources.items():
        is_guessed = name in UNLABELLED
        cuts = [
            (cut_window(x, draw_length(rng), rng), y) for x, y in rows for _ in range(CUTS[name])
        ]
        cuts = list(dict.fromkeys(cuts)) if is_guessed else cuts
        positive = teacher.positive([x for x, _ in cuts])
        found[name] = []
        for (text, label), probability in zip(cuts, positive, strict=True):
            answer = int(probability > 0.5) if is_guessed else label
            agreed = float(probability if answer else 1 - probability)
            if agreed > DOUBT and len(text) > 8:
                doubt = (1 - agreed) * (1 if is_guessed else 1 - TRUST)
                found[name].append((vary_review(text, rng), answer, doubt))
        LOG.info("%s: %d of %d windows kept", name, len(found[name]), len(cuts))
    return found


def _filter(rows: list, keep: Keep) -> list:
    kept = keep([text for text, _ in rows])
    return [row for row, good in zip(rows, kept, strict=True) if good]


def _encode(groups: dict, tokenizer: PreTrainedTokenizerFast) -> Units:
    texts = [text for rows in groups.values() for text, _ in rows]
    coded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in coded])])
    units = Units(np.concatenate([np.array(ids, np.uint16) for ids in coded]), starts)
    first = 0
    for kind, rows in groups.items():
        labels = [label for _, label in rows]
        names = list(LEVELS) if kind == LEVEL else sorted(set(labels))
        codes = np.array([names.index(label) for label in labels])
        units.pools[kind] = [np.flatnonzero(codes == i) + first for i in range(len(names))]
        units.names[kind] = names
        first += len(rows)
        LOG.info("%s: %d texts of %d classes", kind, len(rows), len(names))
    return units


def _add_meanings(units: Units, found: Found) -> None:
    """Part the windows into those to train on and those kept out."""
    first = int(units.pools.pop(WINDOW)[0][0])
    for kind, pools in found.pools.items():
        units.pools[kind] = [pool[pool % KEPT_OUT > 0] + first for pool in pools]
        units.held[kind] = [pool[pool % KEPT_OUT == 0] + first for pool in pools]
        units.entries[kind] = found.entries[kind]


def _sense(
    reviews: list, units: Units, teacher: Teacher, tokenizer: PreTrainedTokenizerFast
) -> np.ndarray:
    """Return the probability of "positive" at every id: the teacher's, drawn to the answer."""
    senses = np.full(len(units.ids), np.nan, np.float16)
    for first in range(0, len(reviews), ENCODED):
        some = [text for text, _ in reviews[first : first + ENCODED]]
        coded = tokenizer(some, add_special_tokens=False, return_offsets_mapping=True)
        for i, (text, offsets) in enumerate(zip(some, coded["offset_mapping"], strict=True)):
            ends, probable = teacher.running(text)
            if not len(ends):
                continue
            n_words = np.searchsorted(ends, [end for _, end in offsets], side="right")
            judged = np.concatenate([[0.5], probable])[n_words]
            doubt, answer = units.doubts[first + i], reviews[first + i][1]
            final = doubt if answer == 0 else 1 - doubt
            drawn = judged + (final - judged[-1]) * np.linspace(0, 1, len(judged)) ** 2
            senses[units.starts[first + i] : units.starts[first + i + 1]] = drawn.clip(0, 1)
    return senses


# Windows of texts, and how they are typed


def draw_length(rng: np.random.Generator) -> int:
    """Draw a length in words, mostly 30 to 140."""
    return int(min(220, max(8, rng.lognormal(0, 0.6) * MEDIAN_WORDS)))


def cut_window(text: str, words: int, rng: np.random.Generator) -> str:
    """Return neighbouring sentences of about so many words: a beginning, an end or a middle."""
    sentences = [s for s in _SENTENCE.split(text) if s]
    lengths = [s.count(" ") + 1 for s in sentences]
    if sum(lengths) <= words * 1.3:
        return text
    draw = rng.random()
    start = 0
    if draw > 0.7:
        start = int(rng.integers(len(sentences)))
    elif draw > 0.35:
        total, start = 0, len(sentences)
        while start > 0 and total < words:
            start -= 1
            total += lengths[start]
    stop, total = start, 0
    while stop < len(sentences) and total < words:
        total += lengths[stop]
        stop += 1
    chosen = " ".join(sentences[start:stop])
    return " ".join(chosen.split(" ")[: words * 2])


def vary_review(text: str, rng: np.random.Generator) -> str:
    """Return a review, perhaps with a title, in lower case or with its punctuation rejoined."""
    if is_tokenised(text) and rng.random() < 0.6:
        text = detokenise(text)
    if rng.random() < 0.35:
        text = add_title(text, rng)
    if rng.random() < 0.06:
        text = text.lower()
    return text.strip()


def add_title(text: str, rng: np.random.Generator) -> str:
    """Return a review after one of its short sentences as a title, if it has one."""
    sentences = [s for s in _SENTENCE.split(text) if s]
    low, high = TITLE_WORDS
    short = [i for i, s in enumerate(sentences) if low <= s.count(" ") + 1 <= high]
    if not short or len(sentences) < 2:
        return text
    chosen = short[int(rng.integers(len(short)))]
    title = sentences[chosen]
    if rng.random() < 0.6:
        title = title.rstrip(".")
    if rng.random() < 0.2:
        title = title.title()
    if rng.random() < 0.6:
        del sentences[chosen]
    return f"{title}: {' '.join(sentences)}"


def vary_typing(text: str, rng: np.random.Generator) -> str:
    """Return a short text, perhaps in lower case and without punctuation."""
    draw = rng.random()
    if draw < 0.5:
        return detokenise(text) if is_tokenised(text) else text
    text = text.lower()
    return " ".join(_PUNCTUATION.sub(" ", text).split()) if draw < 0.8 else text
