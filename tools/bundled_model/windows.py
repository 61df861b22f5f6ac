"""Cut reviews of varied length and dress out of longer texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sources import detokenise, is_tokenised

if TYPE_CHECKING:
    import numpy as np

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_PUNCTUATION = re.compile(r"(?!')[^\w\s]|\B'|'\B")
MEDIAN_WORDS = 65
TITLE_WORDS = (1, 9)


def target_words(rng: np.random.Generator) -> int:
    """Draw a length in words, mostly 30 to 140.

    Parameters
    ----------
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    int
        The length.
    """
    return int(min(220, max(8, rng.lognormal(0, 0.6) * MEDIAN_WORDS)))


def cut_window(text: str, words: int, rng: np.random.Generator) -> str:
    """Take neighbouring sentences: a beginning, an end or a middle.

    Parameters
    ----------
    text : str
        A review.
    words : int
        About how many words.
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    str
        The window.
    """
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


def dress(text: str, rng: np.random.Generator) -> str:
    """Vary how a review is typed: with a title, in lower case, with joined punctuation.

    Parameters
    ----------
    text : str
        A review.
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    str
        The review as somebody else may have typed it.
    """
    if is_tokenised(text) and rng.random() < 0.6:
        text = detokenise(text)
    if rng.random() < 0.35:
        text = add_title(text, rng)
    if rng.random() < 0.06:
        text = text.lower()
    return text.strip()


def add_title(text: str, rng: np.random.Generator) -> str:
    """Put one short sentence of a review before it as its title.

    Parameters
    ----------
    text : str
        A review.
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    str
        ``title: review``, or the review where no sentence is short enough.
    """
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


def type_plainly(text: str, rng: np.random.Generator) -> str:
    """Vary how a short text is typed: as it is, or in lower case, perhaps without punctuation.

    Parameters
    ----------
    text : str
        A text.
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    str
        The text as somebody else may have typed it.
    """
    draw = rng.random()
    if draw < 0.5:
        return detokenise(text) if is_tokenised(text) else text
    text = text.lower()
    return " ".join(_PUNCTUATION.sub(" ", text).split()) if draw < 0.8 else text
