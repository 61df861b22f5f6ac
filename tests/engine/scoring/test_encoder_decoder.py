"""Scores of encoder-decoder models equal those of transformers' own passes with labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import NllbTokenizer, T5Tokenizer

from instructclf import PromptClassifier
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.batching import read_behind
from instructclf.engine.scoring.budgets import TokenBudget
from instructclf.engine.scoring.encoder_decoder.forward import find_decoder_start
from instructclf.engine.scoring.encoder_decoder.reading import EncoderDecoderReader
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import ScoringError
from tests.encoder_decoders import make_framing_tokenizer, score_with_labels
from tests.engine.scoring.test_label_scoring import LABEL_SETS, make_encoder
from tests.families import check_encoder_decoder, make_encoder_decoder

EXACT = [
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "encoder-decoder",
    "led",  # windows around each token
    "longt5",
    "m2m_100",  # positions that are counted without padding
    "marian",
    "mbart",  # the last token of a label comes first
    "mt5",
    "nllb-moe",  # experts
    "pegasus",
    "switch_transformers",  # experts of limited capacity
    "t5",
    "t5gemma",
    "umt5",
]
TEXTS = ["", "good", "I like {it} </s> very\n\n much" * 3, *(" film" * n for n in range(1, 12))]
WORDS = LABEL_SETS["shared beginnings"]


@pytest.mark.filterwarnings("ignore:Version v4.12.0 introduces:FutureWarning")
@pytest.mark.parametrize("family", EXACT)
def test_scores_equal_a_pass_with_labels(family):
    outcome = check_encoder_decoder(family)
    assert outcome.kind == "exact", outcome


@pytest.mark.parametrize("family", ["fsmt", "prophetnet"])
def test_a_family_that_cannot_be_scored_is_an_error_that_says_why(family):
    outcome = check_encoder_decoder(family)
    assert outcome.kind == "refused"
    assert "change with the tokens that come after them" in outcome.detail


def test_a_model_that_does_not_take_what_its_encoder_returns_is_an_error():
    model = make_encoder_decoder("t5")

    class Stubborn(type(model)):
        def forward(self, *, input_ids, **inputs):
            return super().forward(input_ids=input_ids, **inputs)

    model.__class__ = Stubborn
    reader, prompts = make_reader(model)
    with pytest.raises(ScoringError, match="Stubborn cannot score labels: .* missing 1 required"):
        list(reader.queue(prompts))


def make_reader(model, *, budget=4096, n_shots=2, texts=TEXTS):
    """Return a reader, and prompts for it."""
    tokenizer = make_framing_tokenizer()
    prompt = make_encoder(tokenizer, WORDS, n_shots=n_shots).prompt
    encoder = PromptEncoder(tokenizer, prompt, WORDS, None, has_decoder=True)
    start = find_decoder_start(model, *encoder.framed_label)
    return EncoderDecoderReader(shared_view(model), start, TokenBudget(budget)), encoder.encode(
        texts
    )


@torch.inference_mode()
def read(reader, prompts):
    scores = np.empty((len(prompts), len(WORDS)))
    for positions, found in read_behind(reader.queue(prompts), 0):
        scores[positions] = found
    return scores


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize("budget", [1, 700, 100_000])
def test_neither_batches_nor_the_order_of_texts_change_scores(budget, family):
    model = make_encoder_decoder(family)
    alone = np.concatenate([read(make_reader(model)[0], [p]) for p in make_reader(model)[1]])
    reader, prompts = make_reader(model, budget=budget)
    np.testing.assert_allclose(read(reader, prompts), alone, rtol=0, atol=1e-5)
    reverse = read(make_reader(model, budget=budget)[0], prompts[::-1])[::-1]
    np.testing.assert_allclose(reverse, alone, rtol=0, atol=1e-5)


class Batches:
    """Records the number of rows in each batch of an encoder."""

    def __init__(self, model):
        self.n_rows = []
        model.get_encoder().register_forward_pre_hook(self._record, with_kwargs=True)

    def _record(self, _module, _arguments, inputs):
        self.n_rows.append(len(inputs["input_ids"]))


def test_prompts_of_similar_length_share_a_batch():
    reader, prompts = make_reader(make_encoder_decoder("t5"), texts=TEXTS[3:])
    batches = Batches(reader._forward.model)
    read(reader, prompts)
    assert max(batches.n_rows) > 2
    batches.n_rows.clear()
    read(reader, prompts)  # what was tried is not tried again
    assert sum(batches.n_rows) == len(prompts)


def test_prompts_go_alone_through_a_model_whose_padding_is_not_masked():
    model = make_encoder_decoder("t5")

    class Careless(type(model.encoder)):
        def forward(self, *, attention_mask, **inputs):
            return super().forward(attention_mask=torch.ones_like(attention_mask), **inputs)

    alone = read(make_reader(model, budget=1)[0], make_reader(model)[1])
    model.encoder.__class__ = Careless
    reader, prompts = make_reader(model)
    np.testing.assert_allclose(read(reader, prompts), alone, rtol=0, atol=1e-5)
    batches = Batches(reader._forward.model)
    read(reader, prompts)
    assert set(batches.n_rows) == {1}


def test_the_tokens_of_a_label_add_up_to_its_score():
    reader, prompts = make_reader(make_encoder_decoder("bart"))
    trie = prompts[0].trie
    with torch.inference_mode():
        edges = reader.score_edges(prompts[0])
        expected = reader.score_after_part(prompts[0])
    sums = np.bincount([label for label, _, _ in trie.edges], weights=edges)
    np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_scores_in_other_precisions_are_near_those_in_float32(family, dtype):
    tolerance = 1e-4 if dtype == torch.float64 else 0.5
    expected = read(*make_reader(make_encoder_decoder(family)))
    found = read(*make_reader(make_encoder_decoder(family).to(dtype)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# Where a decoder starts


def test_a_decoder_starts_as_in_training():
    label = [0, 405, 1]  # start, "positive", end
    starts = {
        "t5": [2, 0],
        "bart": [2, 0],
        "m2m_100": [2, 0],  # it has no function that shifts
        "mbart": [1, 0],  # the last token of the label is the first of the decoder
    }
    for family, start in starts.items():
        assert find_decoder_start(make_encoder_decoder(family), label, 1) == start


@pytest.mark.parametrize("family", ["t5", "m2m_100"])
def test_a_model_without_a_start_token_is_an_error(family):
    model = make_encoder_decoder(family)
    model.config.decoder_start_token_id = None
    with pytest.raises(ScoringError, match="does not say with which token its decoder starts. Set"):
        find_decoder_start(model, [0, 5, 1], 1)


# Tokenizers of families


ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ#:.,<>/_0123456789|()"
PIECES = ["▁", *ALPHABET, "▁positive", "▁negative", "▁good", "▁film"]
MARKS = ["</s>", "<pad>", "<unk>", "<extra_id_0>"]


def make_t5_tokenizer():
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0)]
    return T5Tokenizer(vocab=[*special, *((piece, -len(piece) / 9) for piece in PIECES)])


def make_nllb_tokenizer():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *PIECES])}
    return NllbTokenizer(vocab=vocabulary, merges=[], src_lang="eng_Latn", tgt_lang="fra_Latn")


@pytest.mark.parametrize(
    ("family", "make_tokenizer"), [("t5", make_t5_tokenizer), ("m2m_100", make_nllb_tokenizer)]
)
def test_the_tokenizer_of_a_family_frames_prompts_and_labels(family, make_tokenizer):
    tokenizer = make_tokenizer()
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = make_encoder_decoder(family, **ids)
    classifier = PromptClassifier((model, tokenizer), n_shots=2, calibration=None)
    classifier.fit(["one", "two", "three", "four"], ["good", "good film"] * 2)
    texts = ["good", "", "a film that is </s> good", "x <extra_id_0> y"]
    scores = classifier.label_log_likelihood(texts)
    expected = score_with_labels(model, tokenizer, classifier, texts)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mark", MARKS)
def test_no_text_is_read_as_a_special_token(mark):
    tokenizer = make_t5_tokenizer()
    model = make_encoder_decoder("t5")
    classifier = PromptClassifier((model, tokenizer), n_shots=0)
    classifier.fit(["one", "two"], ["positive", "negative"])
    scorer = classifier.labeller_.scorer(classifier.open_model)
    (encoded,) = scorer.encoder.encode([f"I {mark} like{mark} it."])
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id, *range(len(PIECES) + 3, 600)}
    assert encoded.ids[-1] == tokenizer.eos_token_id
    assert not special & set(encoded.ids[:-1])
