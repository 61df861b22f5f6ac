"""Prompts with demonstrations per text are tokenised as whole strings, and share beginnings."""

from __future__ import annotations

import pytest

from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.variants import VariantEncoder
from instructclf.prompts import TEMPLATES, Prompt, PromptTemplate, write_instruction
from tests.fixtures import END, PAD, START
from tests.prompts.test_neutralising import nasty_texts

WORDS = ("negative", "very positive")
POOL = tuple((f"row {i}\n{'word ' * i}", WORDS[i % 2]) for i in range(6))


def demonstrations_for(texts):
    """Give texts of equal length the same rows."""
    return [(POOL[len(text) % 6], POOL[(len(text) + 1) % 6]) for text in texts]


def make_encoders(tokenizer, template, max_length=None):
    bare = Prompt(template, write_instruction(None, WORDS), (), (START, END, PAD))
    encoder = VariantEncoder(tokenizer, bare, WORDS, max_length, demonstrations_for)

    def encoder_of(text):
        return PromptEncoder(tokenizer, encoder.prompt_for(text), WORDS, max_length)

    return encoder, encoder_of


@pytest.mark.parametrize("max_length", [None, 300])
@pytest.mark.parametrize(
    "template",
    [
        TEMPLATES["alpaca"],
        TEMPLATES["alpaca_legacy"],
        PromptTemplate("{instruction}{input}{response}"),
        PromptTemplate("{instruction} Q{input} A{response}", demonstration_separator="</s>Q"),
    ],
    ids=["alpaca", "legacy", "bare", "special"],
)
def test_tokens_are_those_of_the_prompt_alone(template, max_length, tokenizer):
    encoder, encoder_of = make_encoders(tokenizer, template, max_length)
    texts = [*nasty_texts(12), "a", "b", "", "long " * 300]
    for text, encoded in zip(texts, encoder.encode(texts), strict=True):
        (expected,) = encoder_of(text).encode([text])
        assert encoded.ids == expected.ids, text
        assert encoded.trie.edges == expected.trie.edges
        assert encoded.was_cut == expected.was_cut
        assert encoder.shorten(text) == encoder_of(text).shorten(text)


def test_prompts_share_the_instruction_and_those_with_equal_shots_share_these(tokenizer):
    encoder, _ = make_encoders(tokenizer, TEMPLATES["alpaca"])
    first, alone, second = encoder.encode(["aaa", "bb", "ccc"])
    assert alone.prefix is encoder.prefix_ids
    assert first.prefix is second.prefix
    assert len(first.prefix) > len(encoder.prefix_ids)
    assert list(first.prefix[: len(encoder.prefix_ids)]) == encoder.prefix_ids
    assert len(first.tail) <= 12 < len(alone.tail)


def test_cut_demonstrations_are_marked(tokenizer):
    bare = Prompt(TEMPLATES["alpaca_short"], write_instruction(None, WORDS))
    rows = {"a": (("word " * 200, WORDS[0]),), "b": (("short", WORDS[1]),)}
    encoder = VariantEncoder(tokenizer, bare, WORDS, 250, lambda texts: [rows[t] for t in texts])
    long, short = encoder.encode(["a", "b"])
    assert long.has_cut_demonstrations
    assert not short.has_cut_demonstrations
    assert encoder.prompt_for("a").cut_demonstrations == (0,)
