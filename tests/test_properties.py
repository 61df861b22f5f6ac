"""Properties that hold for all inputs that hypothesis finds."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from instructclf.classifiers.saving.json_values import from_json, to_json
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.tries import build_trie
from instructclf.engine.tokens.truncation import ELLIPSIS, cut_to_fit, find_cut
from instructclf.exceptions import SavedClassifierError
from instructclf.prompts import TEMPLATES, Prompt, PromptTemplate, neutralise, write_instruction
from instructclf.prompts.neutralising import fold
from tests.engine.tokens.test_encoding import encode_whole, spelled_out
from tests.fixtures import END, make_tokenizer

ENCODABLE = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(ENCODABLE, max_size=40)
PIECES = st.sampled_from(
    ["###", " ", "Response", ":", "</s>", "<", "s>", "\n", "{input}", "\uff03"]
)
NASTY = st.lists(st.one_of(PIECES, TEXTS), max_size=8).map("".join)
FIXED = st.text(ENCODABLE, max_size=12).filter(lambda text: "{" not in text and "}" not in text)
MARKERS = st.lists(st.text(ENCODABLE, min_size=1, max_size=8), max_size=3)
ALPACA = TEMPLATES["alpaca"]


# Templates


@given(st.tuples(FIXED, FIXED, FIXED), st.tuples(NASTY, NASTY, NASTY, NASTY))
def test_a_prompt_is_its_fixed_text_with_the_inserted_texts(fixed, data):
    (head, middle, cue), (task, x, y, shot) = fixed, data
    template = PromptTemplate(f"{head}{{instruction}}{middle}{{input}}{cue}{{response}}")
    rendered = template.render(task, x, [(shot, y)], response=y)
    assert rendered == "".join([head, task, middle, shot, cue, y, middle, x, cue, y])


@given(st.tuples(FIXED, FIXED, FIXED), NASTY, NASTY)
def test_joined_parts_are_the_prompt(fixed, task, text):
    head, middle, cue = fixed
    template = PromptTemplate(f"{head}{{instruction}}{middle}{{input}}{cue}{{response}}")
    prompt = Prompt(template, task, ((text, "x"),), ("</s>",))
    assert "".join(part.text for part in prompt.parts(text, "x")) == prompt.render(text, "x")


# Breaking up markers


@given(NASTY, MARKERS, st.sampled_from([" ", "|"]))
def test_breaking_up_a_text_twice_changes_nothing(text, markers, breaker):
    broken = neutralise(text, markers, ["</s>"], breaker=breaker)
    assert neutralise(broken, markers, ["</s>"], breaker=breaker) == broken
    assert "</s>" not in fold(broken)


@given(NASTY)
def test_breaking_up_adds_nothing_but_spaces(text):
    broken = neutralise(text, ALPACA.markers, ["</s>"])
    assert broken.replace(" ", "") == text.replace(" ", "")


@given(TEXTS)
def test_folding_twice_is_folding_once(text):
    assert fold(fold(text)) == fold(text)


# Prompt and label


@cache
def tokenizer():
    return make_tokenizer()


@cache
def encoder(max_length=None):
    words = ["very positive", "very negative", "positive", "good", "good film"]
    prompt = Prompt(ALPACA, write_instruction(None, words), (("a", "good"),), (END,))
    return PromptEncoder(tokenizer(), prompt, words, max_length)


@given(NASTY)
def test_the_tokens_scored_are_those_of_the_whole_string(text):
    encoded_by = encoder()
    (encoded,) = encoded_by.encode([text])
    for words, ids in zip(encoded_by.verbalizer.answers, spelled_out(encoded), strict=True):
        whole = encode_whole(tokenizer(), encoded_by.prompt.render(text, words))
        assert ids in (whole, [*whole, tokenizer().eos_token_id])


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=6))
def test_a_trie_spells_every_label_and_ends_those_that_begin_another(labels):
    assume(len({tuple(label) for label in labels}) == len(labels))
    trie = build_trie(labels, end_token=9)
    for position, label in enumerate(labels):
        spelled = [token for answer, _, token in trie.edges if answer == position]
        begins = any(other[: len(label)] == label and other != label for other in labels)
        assert spelled == ([*label, 9] if begins else label)


# Cutting


@given(TEXTS, st.integers(0, 50))
def test_a_cut_text_fits_and_keeps_both_ends(text, room):
    cut = cut_to_fit(text, room, len)
    assert len(cut) <= room or not cut
    if cut and cut != text:
        start, end = find_cut(cut)
        assert cut[start:end] == ELLIPSIS
        assert text.startswith(cut[:start])
        assert text.endswith(cut[end:])


@given(NASTY.map(lambda text: text * 20))
def test_a_prompt_is_never_longer_than_max_length(text):
    (encoded,) = encoder(240).encode([text])
    assert max(map(len, spelled_out(encoded))) <= 240


# Persistence

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_values_read_back_unchanged(value):
    read = from_json(json.loads(json.dumps(to_json(value, "x"))))
    assert repr(read) == repr(value)  # nan differs from itself, and 0.0 equals -0.0


@given(st.lists(ENCODABLE.map(str) | TEXTS, min_size=1, max_size=4), NASTY)
def test_labels_words_and_definitions_read_back(labels, text):
    prompt = Prompt(ALPACA, text, ((text, labels[0]),), tuple(labels), definitions=text)
    array = np.array(labels)
    read, classes = from_json(json.loads(json.dumps(to_json((prompt, array), "x"))))
    assert read == prompt
    np.testing.assert_array_equal(classes, array)
    assert classes.dtype == array.dtype


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers(), max_size=3))
def test_an_unknown_record_is_an_error(stranger):
    with pytest.raises(SavedClassifierError, match="which this version cannot read"):
        from_json(stranger)
