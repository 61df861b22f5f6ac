"""Raw data to token ids: overlaps dropped, tokenizer trained, reviews labelled."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import wording
from concepts import Found, cut_windows, find
from episodes import Composer
from overlap import drop_overlaps, evaluation_runs
from sources import LABELLED, clean, detokenise, read_labelled, read_rows, read_texts
from tokenizer import check_tokenizer, save_tokenizer, train_tokenizer
from transformers import AutoTokenizer
from units import FILMS, PRODUCTS, build_units

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerFast

LOG = logging.getLogger(__name__)
CUE = "\n\n### Response:\n"
SHARES = {FILMS: 1, PRODUCTS: 3}
NOVELS = 12_000_000
TEMPLATES = {
    "xsum": "news",
    "cnn": "news",
    "gigaword": "news",
    "multi_news": "news",
    "samsum": "dialogue",
    "dream": "dialogue",
    "wiki_bio": "biography",
    "duorc": "plot",
    "sciq": "lesson",
    "qasc": "lesson",
    "quartz": "lesson",
    "ropes": "lesson",
    "adversarial_qa": "facts",
    "quoref": "facts",
    "kilt": "facts",
    "wiki_hop": "facts",
    "cosmos": "tales",
    "social": "tales",
}
"""Where the texts in a prompt are from, by how the name of its template begins."""
QUESTION = re.compile(r"(?:^|(?<=[.!?:\n] )|(?<=\n))([A-Z][^.!?:\n]{8,180}\?)")


def label_words() -> list[str]:
    """Return the label words that deserve a token."""
    pairs = [*wording.POLARITY_WORDS, *wording.SYMBOLS]
    words = [word for row in pairs for word in row[:2]]
    return [*words, "neutral", "very negative", "very positive"]


def tokenizer_corpus(data: Path, texts: dict[str, list[str]]) -> list[str]:
    """Mix the texts that the tokenizer learns from."""
    corpus = [*texts[FILMS][:14_000], *texts[PRODUCTS]]
    corpus += [detokenise(text) for text in texts[PRODUCTS][:8_000]]
    corpus += [text[:200_000] for text in texts["novels100"][:30]]
    corpus += [text[:500_000] for text in texts["wikitext2"]] + texts["tinystories_1000"]
    for name in LABELLED:
        rows = read_labelled(data, name)[:8_000]
        corpus += [text for text, _ in rows]
        corpus += [CUE + label.replace("_", " ") for _, label in rows]
    rows = list(read_rows(data / "instructions.jsonl.gz"))[::12]
    corpus += [row["prompt"][:1_000] for row in rows]
    corpus += [CUE + word for word in label_words() for _ in range(1_500)]
    corpus += [f"{CUE}{word.capitalize()}" for word in label_words()[:10] for _ in range(500)]
    return corpus


def language_ids(
    data: Path,
    texts: dict[str, list[str]],
    tokenizer: PreTrainedTokenizerFast,
    keep: Callable[[list[str]], list[bool]],
) -> np.ndarray:
    """Return the plain texts as one row of ids, shuffled by document.

    Parameters
    ----------
    data : pathlib.Path
        The folder of the raw data.
    texts : dict
        Unlabelled texts by source.
    tokenizer : transformers.PreTrainedTokenizerFast
        The tokenizer.
    keep : callable
        Takes a list of texts, returns which may be used.

    Returns
    -------
    numpy.ndarray
        The ids, each document between the first and the last token.
    """
    pieces = [text for name, times in SHARES.items() for text in texts[name] * times]
    novels = "\n".join(text[20_000:140_000] for text in texts["novels100"])[:NOVELS]
    long = [novels, *texts["wikitext2"]]
    pieces += [text[i : i + 3_000] for text in long for i in range(0, len(text), 3_000)]
    pieces += texts["tinystories_1000"]
    rows = [row for row in read_rows(data / "instructions.jsonl.gz") if len(row["prompt"]) < 1_500]
    good = keep([row["prompt"] for row in rows])
    rows = [row for row, kept in zip(rows, good, strict=True) if kept]
    pieces += [row["prompt"] + CUE + row["completion"] for row in rows]
    order = np.random.default_rng(7).permutation(len(pieces))
    coded = tokenizer([pieces[i] for i in order], add_special_tokens=True)["input_ids"]
    end = tokenizer.eos_token_id
    return np.concatenate([np.array([*ids, end], np.uint16) for ids in coded])


def find_meanings(
    data: Path, texts: dict[str, list[str]], keep: Callable[[list[str]], list[bool]]
) -> Found:
    """Find texts of many meanings in the plain texts and in the prompts.

    Parameters
    ----------
    data : pathlib.Path
        The folder of the raw data.
    texts : dict
        Unlabelled texts by source.
    keep : callable
        Takes a list of texts, returns which may be used.

    Returns
    -------
    Found
        The texts and what they mean.
    """
    sources: dict[str, set[str]] = {source: set() for source in TEMPLATES.values()}
    asked: set[str] = set()
    for row in read_rows(data / "instructions.jsonl.gz"):
        asked.update(QUESTION.findall(row["prompt"]))
        template = row["template"]
        source = next((s for begins, s in TEMPLATES.items() if template.startswith(begins)), None)
        if source:
            parts = row["prompt"].split("\n") + row["completion"].split("\n")
            sources[source].update(clean(part) for part in parts if part.count(" ") > 12)
    every = texts | {name: sorted(members) for name, members in sources.items()}
    rng = np.random.default_rng(11)
    windows = {name: cut_windows(members, name, rng) for name, members in every.items()}
    good = {name: list(compress(members, keep(members))) for name, members in windows.items()}
    questions = sorted(asked)
    return find(good, list(compress(questions, keep(questions))), rng)


def prepare(data: Path, work: Path, against: list[Path]) -> None:
    """Write the tokenizer and the token ids into a work folder.

    Parameters
    ----------
    data : pathlib.Path
        The folder of the raw data.
    work : pathlib.Path
        Where to.
    against : list of pathlib.Path
        Evaluation files whose texts must not be trained on.
    """
    texts = read_texts(data)
    keep = partial(drop_overlaps, runs=evaluation_runs(against))
    for name in (FILMS, PRODUCTS):
        good = keep(texts[name])
        LOG.info("%s: %d overlapping texts dropped", name, good.count(False))
        texts[name] = [x for x, kept in zip(texts[name], good, strict=True) if kept]
    if not (work / "tokenizer").exists():
        trained = train_tokenizer(tokenizer_corpus(data, texts))
        save_tokenizer(trained, work / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    check_tokenizer(tokenizer, CUE, label_words())
    found = find_meanings(data, texts, keep)
    units = build_units(data, texts, found, tokenizer, keep)
    with (work / "units.pkl").open("wb") as file:
        pickle.dump(units, file)
    language = language_ids(data, texts, tokenizer, keep)
    np.save(work / "language.npy", language)
    LOG.info("%d ids of plain text, %d of labelled text", len(language), len(units.ids))
    episode = Composer(units, tokenizer).compose(np.random.default_rng(0), 512)
    LOG.info("%s\n%d label ids", tokenizer.decode(episode.ids), sum(episode.marks))


def main() -> None:
    """Prepare the data."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--against", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options.data, options.work, options.against)


if __name__ == "__main__":
    main()
