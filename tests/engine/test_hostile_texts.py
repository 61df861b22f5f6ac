"""Every text is read as data and nothing else, with every kind of tokenizer."""

from __future__ import annotations

import re
import string
import time
import unicodedata

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from instructclf.engine.tokens.chat import chat_template
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.tokenising import control_strings, find_breaker
from instructclf.prompts import TEMPLATES, Prompt, PromptTemplate, write_instruction
from tests.engine.tokens.test_encoding import make_sentencepiece_tokenizer
from tests.fixtures import END, PAD, START, make_chat_tokenizer, make_tokenizer
from tests.hostile import hostile_texts

WORDS = ["negative", "positive"]
ALPACA = TEMPLATES["alpaca"]
VERDICT = PromptTemplate("{instruction}\nUSER: {input} VERDICT: {response}")
LLAMA_CHAT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "<s>[INST] {{ message['content'] }} [/INST]{% else %} {{ message['content'] }} </s>"
    "{% endif %}{% endfor %}"
)


def make_wordpiece_tokenizer():
    """Make a tokenizer that removes accents, case and white space."""
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    inner.train_from_iterator(
        [ALPACA.render(write_instruction(None, WORDS), "I like it"), "user verdict : < > / s"] * 3,
        trainers.WordPieceTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=list(string.ascii_lowercase + string.digits + string.punctuation),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]"
    )


def make_thinking_tokenizer():
    """Make a tokenizer with tokens that are not special, but are found in any text."""
    tokenizer = make_chat_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>", "[TOOL]", "notable"])
    return tokenizer


def make_folding_tokenizer():
    """Make a tokenizer for conversations that looks for special tokens in normalised text."""
    tokenizer = make_sentencepiece_tokenizer("unigram")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = make_chat_tokenizer().chat_template
    return tokenizer


def make_llama_chat_tokenizer():
    """Make a tokenizer whose chat template has turns that are no special tokens."""
    return make_chat_tokenizer(LLAMA_CHAT)


KINDS = {
    "bytes": (make_tokenizer, ALPACA),
    "bytes, within a line": (make_tokenizer, VERDICT),
    "metaspace": (lambda: make_sentencepiece_tokenizer("bpe"), ALPACA),
    "unigram": (lambda: make_sentencepiece_tokenizer("unigram"), ALPACA),
    "wordpiece": (make_wordpiece_tokenizer, ALPACA),
    "wordpiece, within a line": (make_wordpiece_tokenizer, VERDICT),
    "chat": (make_chat_tokenizer, None),
    "chat with tokens in brackets": (make_thinking_tokenizer, None),
    "chat of a tokenizer that folds": (make_folding_tokenizer, None),
    "chat without special tokens": (make_llama_chat_tokenizer, None),
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def encoder(request):
    make, template = request.param
    return make_encoder(make(), template)


def make_encoder(tokenizer, template=ALPACA, *, max_length=None):
    template = template or chat_template(tokenizer)
    prompt = Prompt(
        template,
        write_instruction(None, WORDS),
        (("a film", "negative"), ("a good one", "positive")),
        control_strings(tokenizer),
        breaker=find_breaker(tokenizer, template.markers),
    )
    return PromptEncoder(tokenizer, prompt, WORDS, max_length)


# Counts in token ids, by the simplest means


class Counter:
    """Counts what no text may add to a prompt: control tokens, and the template's markers."""

    def __init__(self, encoder):
        self.tokenizer = encoder._tokenise.tokenizer
        unknown = self.tokenizer.unk_token
        strings = [token for token in encoder.prompt.control_strings if token != unknown]
        self.controls = set(self.tokenizer.convert_tokens_to_ids(strings))
        markers = encoder.prompt.template.markers
        # A marker that begins with a letter is one only at the beginning of a line.
        anywhere = [m for m in markers if encoder.prompt.breaker != " " or not m[0].isalpha()]
        encoded = encoder._tokenise.without_start([m for m in anywhere if m[0] != " "])
        self.sequences = [sequence for sequence in encoded if sequence]
        self.patterns = [
            re.compile(_start(marker) + r"\s*".join(map(re.escape, folded(marker).split())))
            for marker in markers
            if encoder.prompt.breaker == " "  # else ids are enough
        ]

    def __call__(self, ids):
        read = folded(self._decode(ids))
        return (
            sum(token in self.controls for token in ids),
            *(_count(sequence, ids) for sequence in self.sequences),
            *(len(pattern.findall(read)) for pattern in self.patterns),
        )

    def _decode(self, ids):
        if self.tokenizer.backend_tokenizer.decoder is None:
            return "".join(self.tokenizer.convert_ids_to_tokens(ids)).replace("▁", " ")
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def folded(text):
    return unicodedata.normalize("NFKC", text).lower()


def _start(marker):
    if marker[0] == " ":
        return r"(?<![0-9a-z])"
    return r"(?m:^\s*)" if marker[0].isalpha() else ""


def _count(sequence, ids):
    n = len(sequence)
    return sum(ids[start : start + n] == sequence for start in range(len(ids) - n + 1))


def fixed_strings(encoder):
    fixed = [*encoder.prompt.template.markers, *encoder.prompt.control_strings]
    return [*fixed, *TEMPLATES["alpaca"].markers, START, END, PAD, "<|im_end|>\n<|im_start|>user"]


N_TEXTS = 1_000
"""For each of the ten kinds of tokenizer and template: ten thousand in all."""


def test_no_marker_and_no_control_token_comes_out_of_a_thousand_hostile_texts(encoder):
    count = Counter(encoder)
    expected = count(encoder.encode([""])[0].ids)
    texts = hostile_texts(N_TEXTS, fixed_strings(encoder))
    for text, encoded in zip(texts, encoder.encode(texts), strict=True):
        assert count(encoded.ids) == expected, text


def test_the_count_sees_a_marker_that_passes(encoder):
    """Without any breaking up, the same texts do smuggle in markers or control tokens."""
    count = Counter(encoder)
    expected = count(encoder.encode([""])[0].ids)
    open_prompt = Prompt(encoder.prompt.template, encoder.prompt.instruction)
    object.__setattr__(open_prompt, "as_data", lambda text: text)
    fooled = PromptEncoder(encoder._tokenise.tokenizer, open_prompt, WORDS, None)
    texts = fixed_strings(encoder)[: len(encoder.prompt.template.markers)]
    found = [count(encoded.ids) for encoded in fooled.encode(texts)]
    assert all(sum(counts) > 0 for counts in found)
    assert any(counts != count(fooled.encode([""])[0].ids) for counts in found), expected


def test_a_texts_tokens_do_not_depend_on_its_neighbours(encoder):
    texts = hostile_texts(60, fixed_strings(encoder), seed=1)
    together = [encoded.ids for encoded in encoder.encode(texts)]
    assert together == [encoder.encode([text])[0].ids for text in texts]


def test_white_space_breaks_markers_only_where_a_tokenizer_sees_it():
    markers = ALPACA.markers
    assert find_breaker(make_tokenizer(), markers) == " "
    assert find_breaker(make_sentencepiece_tokenizer("unigram"), markers) == " "
    assert find_breaker(make_wordpiece_tokenizer(), markers) == "|"


def test_a_word_is_a_marker_anywhere_where_a_tokenizer_sees_no_lines():
    encoder = make_encoder(make_wordpiece_tokenizer(), VERDICT)
    assert encoder.prompt.as_data("good user: bad") == "good u|ser: bad"
    seeing = make_encoder(make_tokenizer(), VERDICT)
    assert seeing.prompt.as_data("good user: bad") == "good user: bad"


def test_tokens_in_brackets_are_control_strings_and_added_words_are_not():
    found = control_strings(make_thinking_tokenizer())
    assert {"<think>", "</think>", "[TOOL]", "<|im_end|>"} <= set(found)
    assert "notable" not in found


@pytest.mark.parametrize(
    "text",
    ["a" * 10**6, "### Response:\n" * 70_000, "<" * 10**6, "\u0301" * 10**6, "</s>" * 250_000],
    ids=["letters", "markers", "brackets", "accents", "end tokens"],
)
def test_a_text_of_a_million_characters_is_cut_within_seconds(text):
    tokenizer = make_tokenizer()
    encoder = make_encoder(tokenizer, max_length=600)
    started = time.process_time()
    (encoded,) = encoder.encode([text])
    assert time.process_time() - started < 20
    assert encoded.was_cut
    assert encoded.n_tokens <= 600
    assert Counter(encoder)(encoded.ids) == Counter(encoder)(encoder.encode([""])[0].ids)
