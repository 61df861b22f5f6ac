"""Texts of many meanings, told by their words: feelings, subjects, genres, questions, concepts.

Nobody labelled these texts. A feeling or a subject is told by words of a list, a question by how it
begins, a genre by where the text is from. A concept is a word and the words that keep its company.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from lexicon import FEELINGS, GENRES, QUESTIONS, SUBJECTS, Entry, words_of
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.preprocessing import normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOG = logging.getLogger(__name__)
FEELING, SUBJECT, GENRE, QUESTION, CONCEPT = "feeling", "subject", "genre", "question", "concept"
MOST = {"novels100": 150_000, "british_fiction": 50_000, "imdb_unsup": 70_000}
MOST_OF_A_SOURCE = 60_000
MOST_OF_A_WORD = 200
MOST_OF_A_CLASS = 6_000
FEWEST = 60
N_CONCEPTS = 1_000
N_COMPANY = 14
FEWEST_WORDS = 8
N_FACTORS = 128
CLOSE = 0.45
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_SENTENCE = re.compile(r"(?<=[.!?])[\"']?\s+")
_BEFORE = words_of(
    "feel feels felt feeling am was were is are be been i'm he's she's they're so very quite too "
    "became become looked looks seemed seems grew a little more rather really all both and with of "
    "in by made makes his her my such"
)
_NOT = words_of("not no never without hardly nor neither don't didn't isn't wasn't can't")


@dataclass
class Found:
    """Windows of text, and for every kind the windows of each of its entries.

    Parameters
    ----------
    windows : list of str
        The texts.
    entries : dict
        What the labels of a kind mean.
    pools : dict
        For each kind, an array of windows for each entry.
    """

    windows: list[str]
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    pools: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, kind: str, entries: Iterable[Entry], pools: Iterable[list[int]]) -> None:
        """Add a kind, without entries of too few windows."""
        pairs = [(e, np.array(p)) for e, p in zip(entries, pools, strict=True) if len(p) >= FEWEST]
        self.entries[kind] = [entry for entry, _ in pairs]
        self.pools[kind] = [pool for _, pool in pairs]
        LOG.info("%s: %d entries, %d windows", kind, len(pairs), sum(len(p) for _, p in pairs))


def cut_windows(texts: list[str], name: str, rng: np.random.Generator) -> list[str]:
    """Cut the texts of a source into one to three sentences.

    Parameters
    ----------
    texts : list of str
        The texts.
    name : str
        The source, which says how many windows there are at most.
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    list of str
        The windows.
    """
    cuts = list(dict.fromkeys(cut for text in texts for cut in _cut(text, rng)))
    most = MOST.get(name, MOST_OF_A_SOURCE)
    return [cuts[i] for i in rng.permutation(len(cuts))[:most]]


def _cut(text: str, rng: np.random.Generator) -> Iterable[str]:
    sentences = _SENTENCE.split(" ".join(text.split()))
    first = 0
    while first < len(sentences):
        stop = first + int(rng.integers(1, 4))
        window = " ".join(sentences[first:stop]).strip()
        if 5 <= window.count(" ") < 70:
            yield window
        first = stop


def find(texts: dict[str, list[str]], questions: list[str], rng: np.random.Generator) -> Found:
    """Find the windows of every entry of every kind.

    Parameters
    ----------
    texts : dict
        Windows by source; the sources that `lexicon.GENRES` names are genres.
    questions : list of str
        Questions.
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    Found
        The windows and what they mean.
    """
    windows = [window for members in texts.values() for window in members]
    sources = [name for name, members in texts.items() for _ in members]
    n_windows = len(windows)
    asked = sorted({q for q in questions if 3 <= q.count(" ") < 40})
    found = Found(windows + asked)
    words = [_WORD.findall(window.lower()) for window in windows]
    found.add(FEELING, FEELINGS, _told_by(FEELINGS, words, rng, times=1, felt=True))
    found.add(SUBJECT, SUBJECTS, _told_by(SUBJECTS, words, rng, times=2, felt=False))
    where = defaultdict(list)
    for i, source in enumerate(sources):
        where[source].append(i)
    genres = [[i for name in entry.words for i in where[name]] for entry in GENRES]
    found.add(GENRE, GENRES, [_some(pool, rng) for pool in genres])
    kinds = [[] for _ in QUESTIONS]
    for i, question in enumerate(asked):
        matching = [k for k, e in enumerate(QUESTIONS) if _begins(question.lower(), e.words)]
        if matching:
            kinds[matching[0]].append(n_windows + i)
    found.add(QUESTION, QUESTIONS, [_some(pool, rng) for pool in kinds])
    found.add(CONCEPT, *_mine(windows, words, rng))
    return found


def _begins(question: str, beginnings: Iterable[str]) -> bool:
    return any(question.startswith(beginning.replace("_", " ") + " ") for beginning in beginnings)


def _some(pool: list[int], rng: np.random.Generator) -> list[int]:
    return [pool[i] for i in rng.permutation(len(pool))[:MOST_OF_A_CLASS]]


def _told_by(
    entries: tuple[Entry, ...],
    words: list[list[str]],
    rng: np.random.Generator,
    *,
    times: int,
    felt: bool,
) -> list[list[int]]:
    """Return the windows that have words of one entry and of no other, as often as asked."""
    owner = {word: k for k, entry in enumerate(entries) for word in entry.words}
    pools: list[list[int]] = [[] for _ in entries]
    used: Counter[str] = Counter()
    for i in rng.permutation(len(words)):
        row = words[i]
        told = {word for word in row if word in owner}
        if not told or len({owner[word] for word in told}) > 1 or len(told) < times:
            continue
        rarest = min(told, key=used.__getitem__)
        if used[rarest] >= MOST_OF_A_WORD * times or (felt and not _is_felt(row, told)):
            continue
        used[rarest] += 1
        pools[owner[rarest]].append(int(i))
    return [_some(pool, rng) for pool in pools]


def _is_felt(row: list[str], told: set[str]) -> bool:
    """Tell whether a word is said of somebody, and not denied."""
    for at, word in enumerate(row):
        if word in told:
            before = row[max(0, at - 3) : at]
            if _NOT.intersection(before) or not _BEFORE.intersection(before):
                return False
    return True


def _mine(
    windows: list[str], words: list[list[str]], rng: np.random.Generator
) -> tuple[list[Entry], list[list[int]]]:
    """Return words with the company they keep, and the windows where they meet."""
    names = _common_words(windows, words)
    if len(names) <= N_FACTORS:
        return [], []
    vectorizer = TfidfVectorizer(
        analyzer=lambda row: row, vocabulary=names, binary=True, dtype=np.float32
    )
    matrix = vectorizer.fit_transform(words)
    svd = TruncatedSVD(N_FACTORS, n_iter=3, random_state=0).fit(matrix)
    vectors = normalize(svd.components_.T * svd.singular_values_)
    columns = matrix.tocsc()
    entries, pools = [], []
    for seed, company in _companies(vectors):
        rows = np.concatenate([columns[:, c].indices for c in company])
        met, counts = np.unique(rows, return_counts=True)
        pool = met[counts >= 2]
        if len(pool) < FEWEST:
            continue
        close = [names[seed], *(names[c] for c in company if c != seed)]
        texts = (
            ", ".join(close[1:4]),
            f"About {close[1]} and {close[2]}.",
            " and ".join(close[1:3]),
        )
        entries.append(Entry(tuple(close[:2]), texts, frozenset(close)))
        pools.append(pool[rng.permutation(len(pool))[:600]].tolist())
        if len(entries) == N_CONCEPTS:
            break
    return entries, pools


def _companies(vectors: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """Yield words and those nearest to them, the closest companies first."""
    likeness = vectors @ vectors.T
    nearest = np.argsort(-likeness, axis=1)[:, : N_COMPANY + 1]
    close = np.take_along_axis(likeness, nearest, 1)
    for seed in np.argsort(-close[:, :FEWEST_WORDS].mean(1)):
        company = nearest[seed][close[seed] > CLOSE].tolist()
        if len(company) >= FEWEST_WORDS:
            yield int(seed), company


def _common_words(windows: list[str], words: list[list[str]]) -> list[str]:
    """Return words that are neither rare nor everywhere, and not mostly capitalised."""
    counts = Counter(word for row in words for word in set(row))
    capitals = Counter(
        word.lower() for window in windows for word in re.findall(r"\b[A-Z][a-z]+", window)
    )
    return sorted(
        word
        for word, count in counts.items()
        if 150 <= count < 0.02 * len(words)
        and len(word) > 3
        and "'" not in word
        and word not in ENGLISH_STOP_WORDS
        and capitals[word] < 0.4 * count
    )
