"""Unlabelled texts → texts of many meanings: feelings, subjects, genres, questions, concepts.

Nobody labelled these texts. Words of a list (``lexicon.toml``) indicate a feeling or a subject, its
beginning the kind of a question, its source the genre of a text. A concept is a word with the words
that often occur near it.
"""

from __future__ import annotations

import logging
import re
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.preprocessing import normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOG = logging.getLogger(__name__)
FEELING, SUBJECT, GENRE, QUESTION, CONCEPT = "feeling", "subject", "genre", "question", "concept"
MOST = {"novels100": 150_000, "british_fiction": 50_000, "imdb_unsup": 70_000}
"""The most windows of a source, where it is not `MOST_OF_A_SOURCE`."""
MOST_OF_A_SOURCE = 60_000
MOST_OF_A_WORD = 200
MOST_OF_A_CLASS = 6_000
FEWEST = 60
N_CONCEPTS = 1_000
N_NEAR = 14
FEWEST_WORDS = 8
N_FACTORS = 128
CLOSE = 0.45
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_SENTENCE = re.compile(r"(?<=[.!?])[\"']?\s+")


@dataclass(frozen=True)
class Entry:
    """A meaning that a label can have.

    Parameters
    ----------
    names : tuple of str
        Label words.
    definitions : tuple of str
        Sentences that define the label; "{}" is the person who feels it.
    words : frozenset of str
        Words in lower case that indicate it.
    """

    names: tuple[str, ...]
    definitions: tuple[str, ...]
    words: frozenset[str]


_LEXICON = tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))


def _entries(kind: str) -> tuple[Entry, ...]:
    return tuple(
        Entry(tuple(e["names"]), tuple(e["definitions"]), frozenset(e["words"].split()))
        for e in _LEXICON[kind]
    )


FEELINGS, SUBJECTS = _entries("feelings"), _entries("subjects")
GENRES, QUESTIONS = _entries("genres"), _entries("questions")
_BEFORE, _NOT = (frozenset(_LEXICON[key].split()) for key in ("before_feelings", "negations"))


@dataclass
class Found:
    """Windows of text, and for every kind the windows of each of its entries.

    Parameters
    ----------
    windows : list of str
        The texts.
    entries : dict
        The entries of each kind.
    pools : dict
        For each kind, an array of positions in ``windows`` for each entry.
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


def cut_windows(texts: list[str], source: str, rng: np.random.Generator) -> list[str]:
    """Cut the texts of a source into windows of one to three sentences, up to a maximum."""
    cuts = list(dict.fromkeys(cut for text in texts for cut in _cut(text, rng)))
    most = MOST.get(source, MOST_OF_A_SOURCE)
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
        Windows by source. The entries of `GENRES` name sources.
    questions : list of str
        Questions.
    rng : numpy.random.Generator
        Decides what is drawn.

    Returns
    -------
    Found
        The windows and their meanings.
    """
    windows = [window for members in texts.values() for window in members]
    sources = [name for name, members in texts.items() for _ in members]
    n_windows = len(windows)
    asked = sorted({q for q in questions if 3 <= q.count(" ") < 40})
    found = Found(windows + asked)
    words = [_WORD.findall(window.lower()) for window in windows]
    found.add(FEELING, FEELINGS, _indicated(FEELINGS, words, rng, times=1, felt=True))
    found.add(SUBJECT, SUBJECTS, _indicated(SUBJECTS, words, rng, times=2, felt=False))
    of_source = defaultdict(list)
    for i, source in enumerate(sources):
        of_source[source].append(i)
    genres = [[i for name in entry.words for i in of_source[name]] for entry in GENRES]
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


def _indicated(
    entries: tuple[Entry, ...],
    words: list[list[str]],
    rng: np.random.Generator,
    *,
    times: int,
    felt: bool,
) -> list[list[int]]:
    """Return the windows with at least ``times`` words of one entry and none of the others."""
    owner = {word: k for k, entry in enumerate(entries) for word in entry.words}
    pools: list[list[int]] = [[] for _ in entries]
    used: Counter[str] = Counter()
    for i in rng.permutation(len(words)):
        row = words[i]
        words_of_entry = {word for word in row if word in owner}
        n_entries = len({owner[word] for word in words_of_entry})
        if n_entries != 1 or len(words_of_entry) < times:
            continue
        rarest = min(words_of_entry, key=used.__getitem__)
        if used[rarest] >= MOST_OF_A_WORD * times or (felt and not _is_felt(row, words_of_entry)):
            continue
        used[rarest] += 1
        pools[owner[rarest]].append(int(i))
    return [_some(pool, rng) for pool in pools]


def _is_felt(row: list[str], feelings: set[str]) -> bool:
    """Say whether all words of feelings describe somebody and are not negated."""
    for at, word in enumerate(row):
        if word in feelings:
            before = row[max(0, at - 3) : at]
            if _NOT.intersection(before) or not _BEFORE.intersection(before):
                return False
    return True


def _mine(
    windows: list[str], words: list[list[str]], rng: np.random.Generator
) -> tuple[list[Entry], list[list[int]]]:
    """Return words with those near them, and the windows that contain two or more of these."""
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
    for word, near in _neighbours(vectors):
        rows = np.concatenate([columns[:, i].indices for i in near])
        met, counts = np.unique(rows, return_counts=True)
        pool = met[counts >= 2]
        if len(pool) < FEWEST:
            continue
        close = [names[word], *(names[i] for i in near if i != word)]
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


def _neighbours(vectors: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """Yield words and those nearest to them, the closest groups first."""
    likeness = vectors @ vectors.T
    nearest = np.argsort(-likeness, axis=1)[:, : N_NEAR + 1]
    close = np.take_along_axis(likeness, nearest, 1)
    for word in np.argsort(-close[:, :FEWEST_WORDS].mean(1)):
        near = nearest[word][close[word] > CLOSE].tolist()
        if len(near) >= FEWEST_WORDS:
            yield int(word), near


def _common_words(windows: list[str], words: list[list[str]]) -> list[str]:
    """Return words that are neither rare nor frequent, and not mostly capitalised."""
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
