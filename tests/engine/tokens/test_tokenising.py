"""Prompts get the tokens of whole strings, and tokens are read back as characters."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from instructclf.engine.tokens.tokenising import (
    SuffixTokeniser,
    WholeStringTokeniser,
    common_prefix_length,
    control_strings,
    find_breaker,
    token_pieces,
)
from instructclf.prompts import TEMPLATES
from tests.fixtures import END, START, make_chat_tokenizer, make_tokenizer

BEGINNING = "Below is an instruction that describes a task. Write a response.\n\n" * 5
ENDINGS = ["good\n\n### Response:\n", "\n\n### Response:\n", " very long, ha!" * 3]


# Whole strings


def test_a_start_token_comes_before_each_string(tokenizer):
    tokenise = WholeStringTokeniser(tokenizer, frame="")
    assert tokenise(["good", "bad"]) == tokenizer(["good", "bad"])["input_ids"]
    assert tokenise.without_start(["good"]) == [tokenise(["good"])[0][1:]]


def test_a_frame_with_a_start_token_gets_no_second_one(tokenizer):
    tokenise = WholeStringTokeniser(tokenizer, frame=f"{START}Do.")
    assert tokenise([f"{START}Do."])[0].count(tokenizer.bos_token_id) == 1


def test_no_strings_have_no_tokens(tokenizer):
    tokenise = WholeStringTokeniser(tokenizer, frame="")
    assert tokenise([]) == tokenise.without_start([]) == []


@pytest.mark.parametrize(("frame", "is_special"), [("Do.", False), (f"Do.{END}", True)])
def test_strings_of_special_tokens_are_special_only_if_the_frame_has_some(
    frame, is_special, tokenizer
):
    tokenise = WholeStringTokeniser(tokenizer, frame)
    assert tokenise.reads_special_tokens is is_special
    (ids,) = tokenise([f"fine{END}"])
    assert (tokenizer.eos_token_id in ids) is is_special


# Shared beginnings


def make_suffix_tokeniser(tokenizer, beginning=BEGINNING):
    """Return it, and the function that tokenises whole prompts."""
    tokenise = WholeStringTokeniser(tokenizer, frame="")
    wholes = tokenise([beginning + ending for ending in ENDINGS])
    prefix = wholes[0][: common_prefix_length(wholes)]
    examples = dict(zip(ENDINGS, wholes, strict=True))
    return SuffixTokeniser(tokenise, beginning, prefix, examples), tokenise


@pytest.mark.parametrize("beginning", [BEGINNING, "Do.\n", ""], ids=["long", "short", "empty"])
@pytest.mark.parametrize("adds_start", [True, False])
def test_prefix_and_tail_are_the_tokens_of_the_whole_prompt(adds_start, beginning):
    tokenizer = make_tokenizer(adds_start=adds_start)
    tokenise_suffixes, tokenise = make_suffix_tokeniser(tokenizer, beginning)
    endings = [*ENDINGS, "", "x", "\n", "é", "### Response:\n", "Write a response.\n\n"]
    wholes = tokenise([beginning + ending for ending in endings])
    tokenised = tokenise_suffixes(endings)
    assert [[*prefix, *tail] for prefix, tail in tokenised] == wholes


def test_prompts_share_one_prefix_object(tokenizer):
    tokenise_suffixes, _ = make_suffix_tokeniser(tokenizer)
    (first, _), (second, _) = tokenise_suffixes(["one", "two"])
    assert first is second
    assert len(first) > 20


def test_only_the_last_characters_of_a_long_beginning_are_tokenised_again(tokenizer):
    tokenise_suffixes, tokenise = make_suffix_tokeniser(tokenizer)
    read = []
    backend = tokenise._encode
    tokenise._encode = lambda strings, **options: (
        read.extend(strings) or backend(strings, **options)
    )
    tokenise_suffixes(["one", "two"])
    assert [len(string) for string in read] == [203, 203]


def test_a_prompt_that_changes_the_prefix_shares_none(tokenizer):
    """The prefix claims one token more than the prompts share."""
    tokenise = WholeStringTokeniser(tokenizer, frame="")
    (whole,) = tokenise([f"{BEGINNING}good"])
    tokenise_suffixes = SuffixTokeniser(tokenise, BEGINNING, whole, {"good film": [*whole, 7]})
    ((prefix, tail),) = tokenise_suffixes(["bad"])
    assert prefix == ()
    assert [tail] == tokenise([f"{BEGINNING}bad"])


def test_examples_that_disagree_leave_whole_prompts(tokenizer):
    tokenise = WholeStringTokeniser(tokenizer, frame="")
    wholes = tokenise([f"{BEGINNING}good", f"{BEGINNING}bad"])
    wrong = {"good": wholes[0], "bad": [*wholes[1][:-1], 7]}
    tokenise_suffixes = SuffixTokeniser(tokenise, BEGINNING, wholes[0][:20], wrong)
    assert tokenise_suffixes(["good"]) == [(wholes[0][:20], wholes[0][20:])]
    assert tokenise_suffixes(["bad"]) == [(wholes[1][:20], wholes[1][20:])]


def test_the_first_items_that_all_sequences_share_are_counted():
    assert common_prefix_length([[1, 2, 3], [1, 2, 4], [1, 2]]) == 2
    assert common_prefix_length([[1, 2], [2, 2]]) == 0
    assert common_prefix_length([[1, 2]]) == 2


# Control strings and breakers


def test_control_strings_come_longest_first():
    tokenizer = make_chat_tokenizer()
    tokenizer.add_tokens(["<think>", "word", "[a]"])
    found = control_strings(tokenizer)
    assert list(found) == sorted(found, key=len, reverse=True)
    assert {"<think>", "[a]", END, "<|im_end|>"} <= set(found)
    assert "word" not in found


def test_a_space_breaks_the_markers_of_an_ordinary_tokenizer(tokenizer):
    assert find_breaker(tokenizer, TEMPLATES["alpaca"].markers) == " "


def make_blind_tokenizer(separator):
    """Make a tokenizer that sees neither white space nor this separator."""
    characters = "abcdefghijklmnopqrstuvwxyz#:|_."
    inner = Tokenizer(models.BPE({c: i for i, c in enumerate(characters)}, []))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(separator, "removed")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner)


@pytest.mark.parametrize(("separator", "breaker"), [("~", "|"), ("|", "_")])
def test_a_tokenizer_that_drops_white_space_gets_a_breaker_that_it_sees(separator, breaker):
    assert find_breaker(make_blind_tokenizer(separator), ["###text:", "###answer:"]) == breaker


def test_a_tokenizer_that_sees_no_breaker_gets_a_space():
    assert find_breaker(make_blind_tokenizer(Regex("[|_.]")), ["###text:"]) == " "


# Tokens as characters


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


@pytest.mark.parametrize("make", [make_tokenizer, make_chat_tokenizer])
def test_special_tokens_are_shown(make):
    tokenizer = make()
    assert token_pieces(tokenizer, [tokenizer.eos_token_id, 5], [7])[0] == END


def test_no_tokens_have_no_pieces(tokenizer):
    assert token_pieces(tokenizer, []) == []


def test_the_space_that_a_tokenizer_leaves_out_at_a_beginning_is_there():
    vocabulary = {"<unk>": 0, "▁good": 1, "▁film": 2, "s": 3}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert token_pieces(tokenizer, [2, 3], [1]) == [" film", "s"]
