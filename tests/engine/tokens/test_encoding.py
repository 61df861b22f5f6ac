"""The ids that are scored are those of the whole string, for any text."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from instructclf import InstructionTunedClassifier, ModelOptions, PromptClassifier
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.tokenising import control_strings
from instructclf.exceptions import (
    InvalidLabelsError,
    PromptTooLongError,
    ScoringError,
    TruncationWarning,
)
from instructclf.prompts import TEMPLATES, Prompt, PromptTemplate, write_instruction
from tests.fixtures import (
    END,
    LABELS,
    PAD,
    START,
    TEXTS,
    make_chat_tokenizer,
    make_model,
    make_tokenizer,
)

TEMPLATES_TO_JOIN = {
    "alpaca": TEMPLATES["alpaca"],
    "legacy": TEMPLATES["alpaca_legacy"],
    "cue ends in a space": PromptTemplate("{instruction}\nText: {input}\nVerdict: {response}"),
    "cue is a space": PromptTemplate("{instruction}\n{input} {response}"),
    "no cue": PromptTemplate("{instruction}\n{input}{response}"),
}
LABEL_SETS = {
    "single tokens": ["negative", "positive"],
    "shared beginnings": ["very positive", "very negative", "positive", "good", "good film"],
    "digits": ["1", "2", "12"],
}
PIECES = [
    *"ab<>{}#: \n\t\r\x00",
    "  ",
    "\n\n",
    "é",
    "e\u0301",
    "文",
    "👨‍👩‍👧",
    "\u200b",
    "\u2028",
    "\u00a0",
    "ﬁ",
    "1",
    "23",
    "'s",
    "\\",
    "%s",
    "positive",
    "neg",
    "ative",
    "Response",
    "### ",
    "{input}",
    "{response}",
    START,
    END,
    PAD,
]


def nasty_texts(n_texts=25, seed=0):
    """Return texts made of pieces that may go wrong, the same texts every time."""
    rng = random.Random(seed)
    return ["".join(rng.choices(PIECES, k=rng.randrange(9))) for _ in range(n_texts)]


def make_sentencepiece_tokenizer(model):
    """Make a tokenizer that knows no words: any token may span any join."""
    sentences = [
        TEMPLATES["alpaca"].render(write_instruction(None, words), "I like it", response=answer)
        for words in LABEL_SETS.values()
        for answer in words
    ]
    special = [START, END, PAD, "<unk>"]
    if model == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, max_token_length=12, show_progress=False
        )
    tokenizer.train_from_iterator(sentences * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, unk_token="<unk>"
    )


TOKENIZERS = {
    "bytes": make_tokenizer,
    "bytes, no start": lambda: make_tokenizer(adds_start=False),
    "bpe across words": lambda: make_sentencepiece_tokenizer("bpe"),
    "unigram, start and end": lambda: make_sentencepiece_tokenizer("unigram"),
}


@pytest.fixture(scope="module", params=TOKENIZERS.values(), ids=TOKENIZERS)
def any_tokenizer(request):
    return request.param()


def make_encoder(
    tokenizer,
    words=("negative", "positive"),
    *,
    template=TEMPLATES["alpaca"],
    n_shots=2,
    max_length=None,
    controls=(START, END, PAD),
):
    shots = tuple((f"text number {i}", words[i % len(words)]) for i in range(n_shots))
    prompt = Prompt(template, write_instruction(None, words), shots, controls)
    return PromptEncoder(tokenizer, prompt, words, max_length)


def encode_whole(tokenizer, string):
    """Tokenise a string with one call, without the tokens that follow a text."""
    ids = tokenizer(string, split_special_tokens=True)["input_ids"]
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids


def spelled_out(encoded):
    """Return the whole sequence of each label that the scores are read from."""
    labels = [list(encoded.ids) for _ in range(encoded.trie.n_labels)]
    for label, _, token in encoded.trie.edges:
        labels[label].append(token)
    return labels


def ended(wholes, end):
    return [
        [*ids, end] if any(ids == other[: len(ids)] and ids != other for other in wholes) else ids
        for ids in wholes
    ]


# The ids of the whole string


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
@pytest.mark.parametrize("template", TEMPLATES_TO_JOIN.values(), ids=TEMPLATES_TO_JOIN)
def test_the_ids_are_those_of_tokenising_the_whole_string(template, words, any_tokenizer):
    encoder = make_encoder(any_tokenizer, words, template=template)
    texts = nasty_texts()
    for text, encoded in zip(texts, encoder.encode(texts), strict=True):
        wholes = [encode_whole(any_tokenizer, encoder.prompt.render(text, word)) for word in words]
        assert spelled_out(encoded) == ended(wholes, any_tokenizer.eos_token_id), text


@pytest.mark.parametrize("template", TEMPLATES_TO_JOIN.values(), ids=TEMPLATES_TO_JOIN)
def test_a_texts_encoding_does_not_depend_on_its_neighbours(template, tokenizer):
    encoder = make_encoder(tokenizer, template=template)
    texts = nasty_texts(20)
    together = [spelled_out(encoded) for encoded in encoder.encode(texts)]
    alone = [spelled_out(encoder.encode([text])[0]) for text in texts]
    assert together == alone


@pytest.mark.parametrize("n_shots", [0, 1, 8])
def test_the_ids_are_the_same_however_much_the_prompts_share(n_shots, any_tokenizer):
    encoder = make_encoder(any_tokenizer, n_shots=n_shots)
    texts = nasty_texts(60, seed=n_shots)
    for text, encoded in zip(texts, encoder.encode(texts), strict=True):
        whole = encode_whole(any_tokenizer, encoder.prompt.render(text, "positive"))
        assert spelled_out(encoded)[1] == whole, text


def test_the_shared_beginning_is_tokenised_once(any_tokenizer):
    encoder = make_encoder(any_tokenizer, n_shots=8)
    texts = [f"An ordinary text, number {i}." for i in range(20)]
    encoder.encode(texts)
    read = []
    backend = encoder._tokenise._encode
    encoder._tokenise._encode = lambda strings, **options: (
        read.extend(strings) or backend(strings, **options)
    )
    prompts = [encoder.prompt.render(text) for text in texts]
    assert all(encoded.prefix is encoder.prefix_ids for encoded in encoder.encode(texts))
    assert len(read) == len(texts)
    for string, prompt in zip(read, prompts, strict=True):
        assert prompt.endswith(string)
        assert len(string) < 350 < len(prompt)


def test_a_tokenizer_that_reads_beyond_the_anchor_is_given_whole_prompts(tokenizer):
    """The marked length stands for anything that a tokenizer may do with a whole string."""
    encoder = make_encoder(tokenizer, n_shots=8)
    backend = encoder._tokenise._encode

    def encode(strings, **options):
        return [[len(s), *ids] for s, ids in zip(strings, backend(strings, **options), strict=True)]

    encoder._tokenise._encode = encode
    endings = [encoder.prompt.ending(text) for text in ("fine", "not so fine")]
    wholes = encoder._tokenise([encoder.prompt.beginning + ending for ending in endings])
    tokenised = encoder._suffixes(endings)
    assert [[*prefix, *tail] for prefix, tail in tokenised] == wholes


def test_a_token_across_the_boundary_belongs_to_the_label(tokenizer):
    """The fixture's merges make " positive" one token: the cue's last space is part of it."""
    template = PromptTemplate("{instruction}\nText: {input}\nVerdict: {response}")
    encoder = make_encoder(tokenizer, template=template)
    (encoded,) = encoder.encode(["fine"])
    prompt = encode_whole(tokenizer, encoder.prompt.render("fine"))
    assert encoded.ids == prompt[:-1]
    labels = [tokenizer.decode(ids[len(encoded.ids) :]) for ids in spelled_out(encoded)]
    assert labels == [" negative", " positive"]


def test_prompts_whose_labels_have_the_same_tokens_share_one_trie(tokenizer):
    encoder = make_encoder(tokenizer)
    tries = {id(encoded.trie) for encoded in encoder.encode(nasty_texts(20))}
    assert tries == {id(encoder.trie)}


def test_every_text_gets_the_same_prompt(tokenizer):
    encoder = make_encoder(tokenizer)
    assert encoder.prompt_for("one") is encoder.prompt_for("two") is encoder.prompt


def test_no_texts_make_no_prompts(tokenizer):
    assert make_encoder(tokenizer).encode([]) == []


# Start and special tokens


def count_special_ids(tokenizer, encoder, *texts):
    """Return the numbers of special ids in the prompts of texts: a single one, if all is well."""
    special = set(tokenizer.convert_tokens_to_ids([START, END, PAD])) - {tokenizer.unk_token_id}
    texts = texts or (*nasty_texts(), START, END, f"{END}{START}", f"{PAD}{PAD}", "<s<s>>")
    return {sum(t in special for t in encoded.ids) for encoded in encoder.encode(texts)}


def test_the_start_token_stands_once_and_is_never_scored(tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    for encoded in encoder.encode(nasty_texts()):
        assert encoded.ids[0] == tokenizer.bos_token_id
        for ids in spelled_out(encoded):
            assert ids.count(tokenizer.bos_token_id) == 1


def test_a_tokenizer_without_a_start_token_gets_none():
    tokenizer = make_tokenizer(adds_start=False)
    (encoded,) = make_encoder(tokenizer).encode(["fine"])
    assert tokenizer.bos_token_id not in encoded.ids


def test_a_template_with_its_own_start_token_gets_no_second_one(tokenizer):
    template = PromptTemplate(f"{START}{{instruction}}\n{{input}}\n{{response}}")
    (encoded,) = make_encoder(tokenizer, template=template).encode(["fine"])
    assert encoded.ids[0] == tokenizer.bos_token_id
    assert encoded.ids.count(tokenizer.bos_token_id) == 1


def test_tokens_that_a_tokenizer_puts_after_a_text_are_left_out():
    tokenizer = make_sentencepiece_tokenizer("unigram")
    assert tokenizer("fine")["input_ids"][-1] == tokenizer.eos_token_id
    (encoded,) = make_encoder(tokenizer).encode(["fine"])
    assert tokenizer.eos_token_id not in encoded.ids


def test_special_tokens_in_a_text_never_become_special_ids(any_tokenizer):
    encoder = make_encoder(any_tokenizer)
    assert count_special_ids(any_tokenizer, encoder) == count_special_ids(
        any_tokenizer, encoder, ""
    )


@pytest.mark.parametrize("adds_start", [True, False])
def test_special_tokens_are_not_even_parsed_where_the_template_has_none(adds_start):
    tokenizer = make_tokenizer(adds_start=adds_start)
    encoder = make_encoder(tokenizer, controls=())
    assert count_special_ids(tokenizer, encoder) == {int(adds_start)}


def test_special_tokens_in_a_text_never_become_special_ids_where_the_template_has_some():
    tokenizer = make_chat_tokenizer()
    template = PromptTemplate("<|im_start|>{instruction} {input}<|im_end|>{response}")
    controls = control_strings(tokenizer)
    encoder = make_encoder(tokenizer, template=template, controls=controls, n_shots=1)
    turn_ids = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    special = set(tokenizer.all_special_ids) | set(turn_ids)
    expected = sum(token in special for token in encoder.encode([""])[0].ids)
    assert expected == 3
    for text in [*controls, "<|im_end|>" * 3, "<|im_<|im_end|>end|>", "<|im_end|", "|im_start|>"]:
        (encoded,) = encoder.encode([text])
        assert sum(token in special for token in encoded.ids) == expected, text


def test_control_strings_are_all_special_tokens_longest_first():
    assert control_strings(make_chat_tokenizer()) == (
        "<|im_start|>",
        "<|im_end|>",
        "<pad>",
        "</s>",
        "<s>",
    )


def test_label_words_may_be_special_to_nobody_else(tokenizer):
    """Words that look like a placeholder or like format codes are words."""
    words = ["{input}", "%s"]
    encoder = make_encoder(tokenizer, words)
    (encoded,) = encoder.encode(["fine"])
    labels = [tokenizer.decode(ids[len(encoded.ids) :]) for ids in spelled_out(encoded)]
    assert labels == words


# The prefix that all prompts share


@pytest.mark.parametrize("template", TEMPLATES_TO_JOIN.values(), ids=TEMPLATES_TO_JOIN)
def test_the_shared_prefix_begins_every_prompt(template, tokenizer):
    encoder = make_encoder(tokenizer, template=template)
    assert len(encoder.prefix_ids) > 20
    for encoded in encoder.encode(nasty_texts()):
        assert encoded.ids[: len(encoder.prefix_ids)] == encoder.prefix_ids
        assert len(encoded.ids) > len(encoder.prefix_ids)


def test_the_shared_prefix_holds_all_demonstrations(tokenizer):
    encoder = make_encoder(tokenizer, n_shots=4)
    prefix = tokenizer.decode(encoder.prefix_ids)
    assert encoder.prompt.render("").startswith(prefix.removeprefix(START))
    assert "text number 3" in prefix


def test_the_prefix_of_prompts_that_share_nothing_is_empty():
    tokenizer = make_tokenizer(adds_start=False)
    prompt = Prompt(PromptTemplate("{instruction}{input}{response}"), "")
    assert PromptEncoder(tokenizer, prompt, ["a", "b"], None).prefix_ids == []


# Room


def test_texts_too_long_are_cut_and_fit(tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"], max_length=230)
    texts = ["fine", "long " * 500, "文" * 500, *(text * 40 for text in nasty_texts(20))]
    n_cut = 0
    for text, encoded in zip(texts, encoder.encode(texts), strict=True):
        n_cut += encoded.was_cut
        assert max(len(ids) for ids in spelled_out(encoded)) <= 230
        assert encoded.was_cut == (encoder.shorten(text) != text)
    assert 2 < n_cut < len(texts)


def test_a_text_is_cut_in_its_middle_and_everything_else_stays(tokenizer):
    encoder = make_encoder(tokenizer, max_length=230)
    text = "begin " + "word " * 500 + "finish"
    (encoded,) = encoder.encode([text])
    prompt = tokenizer.decode(encoded.ids)
    assert prompt == START + encoder.prompt.render(encoder.shorten(text))
    assert "\nbegin word" in prompt
    assert " [...] " in prompt
    assert prompt.endswith("finish\n\n### Response:\n")


def test_a_text_that_just_fits_is_not_cut(tokenizer):
    unlimited = make_encoder(tokenizer, max_length=None)
    text = "word " * 30
    needed = max(map(len, spelled_out(unlimited.encode([text])[0]))) + 1  # an end token
    (whole,) = make_encoder(tokenizer, max_length=needed).encode([text])
    assert not whole.was_cut
    (cut,) = make_encoder(tokenizer, max_length=needed - 1).encode([text])
    assert cut.was_cut


def test_a_prompt_that_leaves_no_room_is_an_error_that_says_why(tokenizer):
    match = r"definitions and 2 demonstrations take \d+ tokens, which leaves \d of max_length=115"
    with pytest.raises(PromptTooLongError, match=match):
        make_encoder(tokenizer, max_length=115)


def test_without_a_limit_nothing_is_cut(tokenizer):
    encoder = make_encoder(tokenizer)
    text = "long " * 5000
    assert encoder.shorten(text) is text
    assert not encoder.encode([text])[0].was_cut


# Prompts without any fixed text


def make_bare_encoder(words=("1", "2")):
    prompt = Prompt(PromptTemplate("{instruction}{input}{response}"), "")
    return PromptEncoder(make_tokenizer(adds_start=False), prompt, words, None)


def test_a_prompt_may_have_a_single_token():
    (encoded,) = make_bare_encoder().encode(["a"])
    assert encoded.n_tokens == 1


def test_a_prompt_without_any_token_is_an_error():
    match = "The prompt of the text '' has no token before its label, .* Use a template with fixed"
    with pytest.raises(ScoringError, match=match):
        make_bare_encoder().encode(["a", ""])


# Tokens that the model does not know


def make_larger_tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["zebra"])
    return tokenizer


N_KNOWN = len(make_tokenizer())
MATCH_UNKNOWN = (
    rf"gives 'zebra' the id {N_KNOWN}, but the model has {N_KNOWN} embeddings, for the ids 0 to "
    rf"{N_KNOWN - 1}. Use the .* model.resize_token_embeddings\({N_KNOWN + 1}\)"
)


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [
        (PromptClassifier, "balanced"),
        (PromptClassifier, "knn"),
        (InstructionTunedClassifier, "balanced"),
    ],
)
def test_a_token_without_an_embedding_is_an_error_of_fit(kind, sampler):
    pair = make_model(vocab_size=N_KNOWN), make_larger_tokenizer()
    with pytest.raises(ScoringError, match=MATCH_UNKNOWN):
        kind(pair, sampler=sampler, n_shots=2).fit(TEXTS, ["a zebra", "a horse"] * 8)


def test_a_token_without_an_embedding_is_an_error_in_the_text_that_has_it():
    pair = make_model(vocab_size=N_KNOWN), make_larger_tokenizer()
    classifier = PromptClassifier(pair, n_shots=2).fit(TEXTS, LABELS)
    classifier.predict(["a horse"])
    with pytest.raises(ScoringError, match=MATCH_UNKNOWN):
        classifier.predict(["a horse", "a zebra"])


def test_a_tokenizer_with_tokens_that_are_never_used_may_be_larger_than_the_model(tokenizer):
    model = make_model(vocab_size=N_KNOWN)
    classifier = PromptClassifier((model, make_larger_tokenizer()), random_state=0)
    expected = PromptClassifier((model, tokenizer), random_state=0)
    found = classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert (found == expected.fit(TEXTS, LABELS).predict_proba(TEXTS)).all()


# A limit of the tokenizer


def make_limited_tokenizer(n_tokens):
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = n_tokens
    return tokenizer


def test_the_limit_of_a_tokenizer_is_kept_and_said():
    pair = make_model(), make_limited_tokenizer(400)
    classifier = PromptClassifier(pair, n_shots=2, calibration=None).fit(TEXTS, LABELS)
    assert classifier.max_length_ == 400
    match = r"longer than max_length=400 \(the tokenizer's model_max_length\) allows"
    with pytest.warns(TruncationWarning, match=match):
        classifier.predict(["long " * 500])


def test_a_tokenizer_that_leaves_no_room_is_named():
    pair = make_model(), make_limited_tokenizer(60)
    match = r"leaves 0 of max_length=60 \(the tokenizer's model_max_length\) for a text"
    with pytest.raises(PromptTooLongError, match=match):
        PromptClassifier(pair, n_shots=0).fit(TEXTS, LABELS)


def test_demonstrations_that_a_tokenizer_cuts_say_so():
    pair = make_model(), make_limited_tokenizer(160)
    match = r"and a label within max_length=160 \(the tokenizer's model_max_length\)"
    with pytest.raises(PromptTooLongError, match=match):
        PromptClassifier(pair, n_shots=8).fit([text * 20 for text in TEXTS], LABELS)


def test_a_length_above_the_limit_of_a_tokenizer_is_an_error_that_names_it():
    pair = make_model(), make_limited_tokenizer(400)
    options = ModelOptions(max_length=500)
    with pytest.raises(PromptTooLongError, match=r"more than the 400 .* tokenizer's model_max_len"):
        PromptClassifier(pair, model_options=options).fit(TEXTS, LABELS)


# Labels that cannot be told apart


@pytest.mark.parametrize("kind", [PromptClassifier, InstructionTunedClassifier])
def test_labels_of_the_same_tokens_are_an_error_of_fit_that_names_them(kind):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    classifier = kind((make_model(), tokenizer), n_shots=2, calibration=None)
    match = "The label words 'Good' and 'good' are the same tokens, .* other words in 'verbalizer'"
    with pytest.raises(InvalidLabelsError, match=match):
        classifier.fit(TEXTS, ["Good", "good"] * 8)


def test_answers_of_the_same_tokens_are_an_error_even_without_a_limit(tokenizer):
    with pytest.raises(InvalidLabelsError, match="'fine' and 'fine' are the same tokens"):
        make_encoder(tokenizer, ["fine", "bad", "fine"])


def test_labels_that_a_tokenizer_makes_equal_are_an_error():
    tokenizer = make_sentencepiece_tokenizer("unigram")
    match = "words 'ﬁne' and 'fine' are the same tokens, .* Give other words in 'verbalizer'"
    with pytest.raises(InvalidLabelsError, match=match):
        make_encoder(tokenizer, ["good", "ﬁne", "fine"])


def test_a_label_that_begins_another_needs_an_end_token():
    tokenizer = make_tokenizer(end=None)
    with pytest.raises(ScoringError, match="no end token that tells them apart"):
        make_encoder(tokenizer, ["good", "good film"]).encode(["text"])


# Other prompts with the same labels


@pytest.mark.parametrize("template", TEMPLATES_TO_JOIN.values(), ids=TEMPLATES_TO_JOIN)
def test_a_variant_of_the_prompt_is_tokenised_as_a_whole_too(template, tokenizer):
    encoder = make_encoder(tokenizer, template=template, n_shots=3)
    variant = encoder.prompt.with_demonstrations(encoder.prompt.demonstrations[1:])
    for text in nasty_texts(10):
        (encoded,) = encoder.encode_variants([variant], [text])
        wholes = [
            encode_whole(tokenizer, variant.render(text, words))
            for words in encoder.verbalizer.answers
        ]
        assert spelled_out(encoded) == wholes, text
