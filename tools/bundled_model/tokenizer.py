"""Train the byte-level BPE tokenizer of the bundled model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LOG = logging.getLogger(__name__)
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
VOCABULARY = 8192
CONTEXT = 4096
SPLIT = (
    r"\n|\p{N}|'(?:[sdmt]|ll|ve|re)(?!\p{L})| ?\p{L}+| ?[^\s\p{L}\p{N}]+"
    r"|[^\S\n]+(?!\S)|[^\S\n]+"
)


def train_tokenizer(texts: Iterable[str], context: int = CONTEXT) -> PreTrainedTokenizerFast:
    """Train a tokenizer that loses nothing and splits digits and newlines singly.

    Parameters
    ----------
    texts : iterable of str
        The texts to learn merges from.
    context : int, default=4096
        The model's context, stored as ``model_max_length``.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
        The tokenizer; it puts ``<|bos|>`` first and appends nothing.
    """
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
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, cue: str, labels: Iterable[str]) -> None:
    """Check that a label after the cue leaves the cue's tokens as they were.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        The tokenizer.
    cue : str
        The end of every prompt.
    labels : iterable of str
        Label words.

    Raises
    ------
    ValueError
        If a label changes the cue's tokens or a text does not survive the round trip.
    """
    start = tokenizer(cue)["input_ids"]
    for label in labels:
        whole = tokenizer(cue + label)["input_ids"]
        if whole[: len(start)] != start:
            msg = f"The label {label!r} changes the tokens of the cue."
            raise ValueError(msg)
        if tokenizer.decode(whole, skip_special_tokens=True) != cue + label:
            msg = f"The label {label!r} does not survive the round trip."
            raise ValueError(msg)
        LOG.info("label %r: %d token(s)", label, len(whole) - len(start))


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save the tokenizer.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        The tokenizer.
    folder : pathlib.Path
        Where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
