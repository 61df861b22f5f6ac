"""Labelled texts as token ids: reviews cut, dressed and pseudo-labelled, intents, articles."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from concepts import Found
from sources import HELD_OUT, LEVELS, POLARITY, read_labelled
from teacher import Teacher
from windows import cut_window, dress, target_words, type_plainly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lexicon import Entry
    from transformers import PreTrainedTokenizerFast

    Keep = Callable[[list[str]], list[bool]]

LOG = logging.getLogger(__name__)
POLAR, PRODUCT, LEVEL, INTENT, TOPIC = "polarity", "product", "level", "intent", "topic"
WINDOW = "window"
REVIEWS = ("imdb", "yelp5", "mr", "sst5")
PRODUCTS, FILMS = "fdu_unlabelled_tokenised", "imdb_unsup"
PURCHASES = ("yelp5", PRODUCTS)
CUTS = {"imdb": 4, "yelp5": 6, "mr": 1, "sst5": 1, PRODUCTS: 6, FILMS: 2}
UNLABELLED = (PRODUCTS, FILMS)
ENCODED = 10_000
KEPT_OUT = 20
"""Of so many texts of many meanings, one is kept out."""
DOUBT = 0.2
"""A labelled window that the teacher finds less probable than this is left out."""
TRUST = 0.5
"""How much a label counts beside the teacher where both speak."""
Pair = tuple[str, int]
Cut = tuple[str, int, float]


@dataclass
class Units:
    """Texts as ids and, for every kind of task, the texts of each class.

    Parameters
    ----------
    ids : numpy.ndarray
        All ids in one row.
    starts : numpy.ndarray
        Where each text starts, and the end.
    pools : dict
        For each kind, an array of texts for each class.
    names : dict
        For each kind, the names of the classes.
    entries : dict
        For each kind that words tell, what its classes mean.
    held : dict
        For each of these kinds, the texts of each class that are kept out of training.
    doubts : numpy.ndarray
        For each text, how probable it is that it belongs to the other one of two classes.
    senses : numpy.ndarray
        For each id of a review, how probable it is, up to there, that the review is positive.
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


def split_held_out(rows: list, seed: int = 0) -> tuple[list, list]:
    """Put the same rows of a labelled set aside whenever asked.

    Parameters
    ----------
    rows : list
        The rows.
    seed : int, default=0
        The seed of the shuffle.

    Returns
    -------
    tuple of list
        Rows to train on and rows held out.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[i] for i in order[HELD_OUT:]], [rows[i] for i in order[:HELD_OUT]]


def read_polar(data: Path, name: str) -> list[Pair]:
    """Return the rows of a review set with a clear sentiment, as 0 and 1."""
    rows = read_labelled(data, name)
    return [(text, POLARITY[label]) for text, label in rows if label in POLARITY]


def fit_teacher(reviews: dict[str, list[Pair]], products: list[str], seed: int = 0) -> Teacher:
    """Train the teacher on whole reviews and windows of them.

    Parameters
    ----------
    reviews : dict
        Labelled reviews by set.
    products : list of str
        Unlabelled product reviews.
    seed : int, default=0
        The seed.

    Returns
    -------
    Teacher
        The teacher.
    """
    rng = np.random.default_rng(seed)
    pairs = [pair for rows in reviews.values() for pair in rows]
    for name in ("imdb", "yelp5"):
        pairs += [(cut_window(x, target_words(rng), rng), y) for x, y in reviews[name]]
    teacher = Teacher()
    teacher.fit([x for x, _ in pairs], [y for _, y in pairs], products)
    return teacher


def cut_reviews(
    reviews: dict[str, list[Pair]], texts: dict[str, list[str]], teacher: Teacher, seed: int = 0
) -> dict[str, list[Cut]]:
    """Cut and dress reviews, keeping what the teacher does not contradict or has an opinion on.

    Parameters
    ----------
    reviews : dict
        Labelled reviews by set.
    texts : dict
        Unlabelled texts by source.
    teacher : Teacher
        The teacher.
    seed : int, default=0
        The seed.

    Returns
    -------
    dict
        Reviews, their sentiment, and how doubtful it is, by source.
    """
    rng = np.random.default_rng(seed + 1)
    found: dict[str, list[Cut]] = {}
    sources = {**reviews, **{name: [(x, -1) for x in texts[name]] for name in UNLABELLED}}
    for name, rows in sources.items():
        cuts = [
            (cut_window(x, target_words(rng), rng), y) for x, y in rows for _ in range(CUTS[name])
        ]
        cuts = list(dict.fromkeys(cuts)) if name in UNLABELLED else cuts
        positive = teacher.positive([x for x, _ in cuts])
        guessed = name in UNLABELLED
        found[name] = []
        for (text, label), chance in zip(cuts, positive, strict=True):
            answer = int(chance > 0.5) if guessed else label
            agreed = float(chance if answer else 1 - chance)
            if agreed > DOUBT and len(text) > 8:
                doubt = (1 - agreed) * (1 if guessed else 1 - TRUST)
                found[name].append((dress(text, rng), answer, doubt))
        LOG.info("%s: %d of %d windows kept", name, len(found[name]), len(cuts))
    return found


def build_units(
    data: Path,
    texts: dict[str, list[str]],
    found: Found,
    tokenizer: PreTrainedTokenizerFast,
    keep: Keep,
) -> Units:
    """Assemble every labelled text.

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

    Returns
    -------
    Units
        The texts.
    """
    reviews = {}
    for name in REVIEWS:
        rows = split_held_out(read_polar(data, name))[0]
        reviews[name] = _filter(rows, keep)
    teacher = fit_teacher(reviews, texts[PRODUCTS])
    rng = np.random.default_rng(5)
    cuts = cut_reviews(reviews, texts, teacher)
    films = [name for name in cuts if name not in PURCHASES]
    groups: dict[str, list[tuple[str, object]]] = {
        POLAR: [cut[:2] for name in (*films, *PURCHASES) for cut in cuts[name]],
        LEVEL: [],
    }
    for name in ("sst5", "yelp5"):
        held = {text for text, _ in split_held_out(read_polar(data, name))[1]}
        rows = [row for row in read_labelled(data, name) if row[0] not in held]
        rows = _filter(rows, keep)
        groups[LEVEL] += [(dress(" ".join(x.split(" ")[:200]), rng), y) for x, y in rows]
    for kind, name in ((INTENT, "clinc150"), (TOPIC, "dbpedia14")):
        rows = split_held_out(read_labelled(data, name))[0]
        groups[kind] = [(" ".join(x.split(" ")[:120]), y) for x, y in _filter(rows, keep)]
    groups[WINDOW] = [(type_plainly(text, rng), 0) for text in found.windows]
    units = _encode(groups, tokenizer)
    start = int(units.pools.pop(WINDOW)[0][0])
    for kind, pools in found.pools.items():
        units.pools[kind] = [pool[pool % KEPT_OUT > 0] + start for pool in pools]
        units.held[kind] = [pool[pool % KEPT_OUT == 0] + start for pool in pools]
        units.entries[kind] = found.entries[kind]
    doubts = [cut[2] for name in (*films, *PURCHASES) for cut in cuts[name]]
    units.doubts = np.zeros(len(units.starts) - 1, np.float32)
    units.doubts[: len(doubts)] = doubts
    units.senses = _sense(groups[POLAR], units, teacher, tokenizer)
    first = sum(len(cuts[name]) for name in films)
    units.pools[PRODUCT] = [pool[pool >= first] for pool in units.pools[POLAR]]
    return units


def _sense(
    reviews: list, units: Units, teacher: Teacher, tokenizer: PreTrainedTokenizerFast
) -> np.ndarray:
    """Return how probable "positive" is at every id: the teacher's view, drawn to the answer."""
    senses = np.full(len(units.ids), np.nan, np.float16)
    for first in range(0, len(reviews), ENCODED):
        some = [text for text, _ in reviews[first : first + ENCODED]]
        coded = tokenizer(some, add_special_tokens=False, return_offsets_mapping=True)
        for i, (text, offsets) in enumerate(zip(some, coded["offset_mapping"], strict=True)):
            ends, probable = teacher.running(text)
            if not len(ends):
                continue
            read = np.searchsorted(ends, [end for _, end in offsets], side="right")
            heard = np.concatenate([[0.5], probable])[read]
            doubt, answer = units.doubts[first + i], reviews[first + i][1]
            final = doubt if answer == 0 else 1 - doubt
            drawn = heard + (final - heard[-1]) * np.linspace(0, 1, len(heard)) ** 2
            senses[units.starts[first + i] : units.starts[first + i + 1]] = drawn.clip(0, 1)
    return senses


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
