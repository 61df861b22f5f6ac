"""Tokens as the characters that they stand for."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from instructclf.engine.tokens.tokenising import token_pieces
from tests.fixtures import END, make_chat_tokenizer


def test_pieces_joined_are_the_text(tokenizer):
    text = "I like it,\n\n a  lot\t. ### Response: positive"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(token_pieces(tokenizer, ids)) == text
    assert token_pieces(tokenizer, ids[4:], ids[:4]) == token_pieces(tokenizer, ids)[4:]


def test_a_token_that_is_a_part_of_a_character_has_the_tokenizers_name(tokenizer):
    ids = tokenizer("é", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2
    pieces = token_pieces(tokenizer, ids)
    assert pieces[0] == tokenizer.convert_ids_to_tokens(ids[0])
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@pytest.mark.parametrize("make", [lambda tokenizer: tokenizer, lambda _: make_chat_tokenizer()])
def test_special_tokens_are_shown(make, tokenizer):
    own = make(tokenizer)
    assert token_pieces(own, [own.eos_token_id, 5], [7])[0] == END


def test_the_space_that_a_tokenizer_leaves_out_at_a_beginning_is_there():
    vocabulary = {"<unk>": 0, "▁good": 1, "▁film": 2, "s": 3}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    own = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert token_pieces(own, [2, 3], [1]) == [" film", "s"]
