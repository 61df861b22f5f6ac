"""Raw data → tokenizer and token ids, without texts that overlap with evaluation texts."""

from __future__ import annotations

import logging
import pickle
import re
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tools.bundled_model.concepts import Found, cut_windows, find
from tools.bundled_model.episodes import WORDING, Composer
from tools.bundled_model.sources import (
    FILMS,
    LABELLED,
    PRODUCTS,
    clean,
    detokenise,
    evaluation_runs,
    read_labelled,
    read_rows,
    read_texts,
    without_overlap,
)
from tools.bundled_model.units import build_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Keep = Callable[[list[str]], list[bool]]

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
"""The source of the texts in a prompt, by the beginning of its template's name."""
QUESTION = re.compile(r"(?:^|(?<=[.!?:\n] )|(?<=\n))([A-Z][^.!?:\n]{8,180}\?)")
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
VOCABULARY = 8192
CONTEXT = 4096
SPLIT = (
    r"\n|\p{N}|'(?:[sdmt]|ll|ve|re)(?!\p{L})| ?\p{L}+| ?[^\s\p{L}\p{N}]+"
    r"|[^\S\n]+(?!\S)|[^\S\n]+"
)
"""Pieces that no token spans: digits and newlines are single."""


def prepare(data: Path, work: Path, against: list[Path]) -> None:
    """Write the tokenizer and the token ids into the folder ``work``.

    Parameters
    ----------
    data : pathlib.Path
        The folder of the raw data.
    work : pathlib.Path
        The folder to write to.
    against : list of pathlib.Path
        Evaluation files whose texts must not be trained on.
    """
    work.mkdir(parents=True, exist_ok=True)
    texts = read_texts(data)
    keep = partial(without_overlap, runs=evaluation_runs(against))
    for name in (FILMS, PRODUCTS):
        good = keep(texts[name])
        LOG.info("%s: %d overlapping texts dropped", name, good.count(False))
        texts[name] = list(compress(texts[name], good))
    if not (work / "tokenizer").exists():
        train_tokenizer(tokenizer_corpus(data, texts)).save_pretrained(work / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    check_tokenizer(tokenizer, label_words())
    found = find_meanings(data, texts, keep)
    units = build_units(data, texts, found, tokenizer, keep)
    with (work / "units.pkl").open("wb") as file:
        pickle.dump(units, file)
    language = language_ids(data, texts, tokenizer, keep)
    np.save(work / "language.npy", language)
    LOG.info("%d ids of unlabelled text, %d of labelled text", len(language), len(units.ids))
    episode = Composer(units, tokenizer).compose(np.random.default_rng(0), 512)
    LOG.info("%s\n%d label ids", tokenizer.decode(episode.ids), sum(episode.marks))


def language_ids(
    data: Path, texts: dict[str, list[str]], tokenizer: PreTrainedTokenizerFast, keep: Keep
) -> np.ndarray:
    """Return the unlabelled texts as one row of ids, shuffled, each between start and end token."""
    pieces = [text for name, times in SHARES.items() for text in texts[name] * times]
    novels = "\n".join(text[20_000:140_000] for text in texts["novels100"])[:NOVELS]
    long = [novels, *texts["wikitext2"]]
    pieces += [text[i : i + 3_000] for text in long for i in range(0, len(text), 3_000)]
    pieces += texts["tinystories_1000"]
    rows = [row for row in read_rows(data / "instructions.jsonl.gz") if len(row["prompt"]) < 1_500]
    rows = compress(rows, keep([row["prompt"] for row in rows]))
    pieces += [row["prompt"] + CUE + row["completion"] for row in rows]
    order = np.random.default_rng(7).permutation(len(pieces))
    coded = tokenizer([pieces[i] for i in order], add_special_tokens=True)["input_ids"]
    end = tokenizer.eos_token_id
    return np.concatenate([np.array([*ids, end], np.uint16) for ids in coded])


def find_meanings(data: Path, texts: dict[str, list[str]], keep: Keep) -> Found:
    """Find texts of many meanings in the unlabelled texts and in the prompts."""
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


# Tokenizer


def label_words() -> list[str]:
    """Return the label words that should be one token."""
    pairs = [*WORDING["polarity_words"], *WORDING["symbols"]]
    words = [word for row in pairs for word in row[:2]]
    return [*words, "neutral", "very negative", "very positive"]


def tokenizer_corpus(data: Path, texts: dict[str, list[str]]) -> list[str]:
    """Return the texts that the tokenizer learns from."""
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


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE that loses nothing and puts ``<|bos|>`` first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    LOG.info("tokenizer with %d tokens", tokenizer.get_vocab_size())
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, labels: Iterable[str]) -> None:
    """Raise if a label changes the tokens of the cue before it, or does not decode to itself."""
    start = tokenizer(CUE)["input_ids"]
    for label in labels:
        whole = tokenizer(CUE + label)["input_ids"]
        if whole[: len(start)] != start:
            msg = f"The label {label!r} changes the tokens of the cue."
            raise ValueError(msg)
        if tokenizer.decode(whole, skip_special_tokens=True) != CUE + label:
            msg = f"The label {label!r} does not decode to itself."
            raise ValueError(msg)
        LOG.info("label %r: %d token(s)", label, len(whole) - len(start))
