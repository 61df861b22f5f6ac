"""Gradients of encoder-decoder models are those of transformers' passes with labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.encoder_decoder.forward import EncoderDecoder, find_decoder_start
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from instructclf.engine.tuning.encoder_decoder import EncoderDecoderBackpropagation
from instructclf.engine.tuning.examples import make_examples
from instructclf.exceptions import ScoringError
from tests.encoder_decoders import make_framing_tokenizer, response_loss
from tests.engine.scoring.test_encoder_decoder import EXACT
from tests.engine.tuning.test_training import LABEL_SETS, LABELS, TEXTS
from tests.families import (
    check_encoder_decoder_tuning,
    make_adapter,
    make_encoder_decoder,
    make_prompt_encoder,
    take_gradients,
)

FAMILIES = ["t5", "bart", "t5gemma"]
WORDS = LABEL_SETS["shared beginnings"]
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def tokenizer():
    return make_framing_tokenizer()


def make_double(family):
    return make_encoder_decoder(family, dtype=torch.float64)


def make_backpropagation(adapter, tokenizer, *, words=WORDS, loss="lm+label", **changes):
    encoder = make_prompt_encoder(tokenizer, words)
    texts, labels = changes.pop("texts", TEXTS), changes.pop("labels", LABELS)
    weights = changes.pop("weights", None)
    examples = make_examples(encoder, texts, labels, loss=loss, weights=weights)
    start = find_decoder_start(adapter.model, *encoder.framed_label)
    options = {"max_batch_tokens": 400, "gradient_checkpointing": False} | changes
    return EncoderDecoderBackpropagation(adapter.model, examples, start, **options), examples


def naive_gradients(adapter, tokenizer, *, words=WORDS, loss="lm+label"):
    """One pass of transformers for each text and label."""
    prompt = make_prompt_encoder(tokenizer, words).prompt
    for text, label in zip(TEXTS, LABELS.tolist(), strict=True):
        of_text = response_loss(
            adapter.model, tokenizer, prompt.render(text), words, label=label, loss=loss
        )
        (of_text / len(TEXTS)).backward()
    return take_gradients(adapter)


def assert_close(found, expected):
    assert expected.norm() > 1e-3
    assert (found - expected).norm() <= TOLERANCE * expected.norm()


@pytest.mark.filterwarnings("ignore:Version v4.12.0 introduces:FutureWarning")
@pytest.mark.parametrize("family", EXACT)
def test_gradients_of_a_family_are_those_of_passes_with_labels(family):
    outcome = check_encoder_decoder_tuning(family)
    assert outcome.kind == "exact", outcome


@pytest.mark.parametrize("family", ["fsmt", "prophetnet"])
def test_a_family_that_cannot_be_scored_cannot_be_tuned(family):
    outcome = check_encoder_decoder_tuning(family)
    assert outcome.kind == "refused"
    assert "change with the tokens that come after them" in outcome.detail


@pytest.mark.parametrize("loss", ["label", "lm", "lm+label"])
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_gradients_of_each_loss_are_those_of_passes_with_labels(words, loss, tokenizer):
    adapter = make_adapter(make_double("t5"))
    options = {"words": words, "loss": loss}
    backpropagate, examples = make_backpropagation(adapter, tokenizer, **options)
    with backpropagate.prepared():
        backpropagate(examples)
    found = take_gradients(adapter)
    assert_close(found, naive_gradients(adapter, tokenizer, **options))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_gradients_do_not_depend_on_the_budget(budget, family, tokenizer):
    adapter = make_adapter(make_double(family))
    backpropagate, examples = make_backpropagation(adapter, tokenizer, max_batch_tokens=budget)
    with backpropagate.prepared():
        backpropagate(examples)
    assert_close(take_gradients(adapter), naive_gradients(adapter, tokenizer))


def test_prompts_of_similar_length_share_a_part(tokenizer):
    adapter = make_adapter(make_encoder_decoder("t5"))
    backpropagate, examples = make_backpropagation(adapter, tokenizer, max_batch_tokens=100_000)
    with backpropagate.prepared():
        parts = list(backpropagate._micro_batches(examples))
    assert sorted(map(len, parts)) == [1, 5]
    assert len(set(map(id, (example for part in parts for example in part)))) == len(examples)


def test_prompts_go_alone_through_a_model_whose_padding_is_not_masked(tokenizer):
    adapter = make_adapter(make_double("t5"))
    expected = naive_gradients(adapter, tokenizer)
    encoder = adapter.model.encoder

    class Careless(type(encoder)):
        def forward(self, *, attention_mask, **inputs):
            return super().forward(attention_mask=torch.ones_like(attention_mask), **inputs)

    encoder.__class__ = Careless
    backpropagate, examples = make_backpropagation(adapter, tokenizer)
    with backpropagate.prepared():
        assert all(len(part) == 1 for part in backpropagate._micro_batches(examples))
        backpropagate(examples)
    assert_close(take_gradients(adapter), expected)


# Gradient checkpointing


@pytest.mark.parametrize("family", [*FAMILIES, "bigbird_pegasus", "nllb-moe"])
def test_gradient_checkpointing_gives_the_same_gradients(family, tokenizer):
    adapter = make_adapter(make_double(family))
    backpropagate, examples = make_backpropagation(adapter, tokenizer, gradient_checkpointing=True)
    with backpropagate.prepared():
        backpropagate(examples)
    assert_close(take_gradients(adapter), naive_gradients(adapter, tokenizer))


def test_gradient_checkpointing_keeps_less(tokenizer):
    def n_kept(*, gradient_checkpointing):
        adapter = make_adapter(make_encoder_decoder("t5", num_layers=6, num_decoder_layers=6))
        backpropagate, examples = make_backpropagation(
            adapter, tokenizer, gradient_checkpointing=gradient_checkpointing
        )
        kept = []

        def note(tensor):
            kept.append(tensor.numel())
            return tensor

        prompts = [example.prompt for example in examples]
        noting = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with backpropagate.prepared(), noting:
            backpropagate._forward.label_log_likelihoods(prompts)
        return sum(kept)

    assert n_kept(gradient_checkpointing=True) < 0.5 * n_kept(gradient_checkpointing=False)


def test_layers_are_restored_after_checkpointing(tokenizer):
    adapter = make_adapter(make_encoder_decoder("t5"))
    backpropagate, _ = make_backpropagation(adapter, tokenizer, gradient_checkpointing=True)
    blocks = [*adapter.model.encoder.block, *adapter.model.decoder.block]
    with backpropagate.prepared():
        assert all("forward" in vars(block) for block in blocks)
    assert not any("forward" in vars(block) for block in blocks)


# Sums and memory


def test_losses_are_sums_over_the_batch(tokenizer):
    adapter = make_adapter(make_double("bart"))
    backpropagate, examples = make_backpropagation(adapter, tokenizer)
    with backpropagate.prepared():
        whole = backpropagate(examples)
        parts = backpropagate(examples[:2]) + backpropagate(examples[2:])
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)


def test_a_scaled_loss_scales_the_gradients_and_not_the_reported_loss(tokenizer):
    adapter = make_adapter(make_double("bart"))
    backpropagate, examples = make_backpropagation(adapter, tokenizer)
    with backpropagate.prepared():
        losses = backpropagate(examples)
        expected = 1024 * take_gradients(adapter)
        scaled = backpropagate(examples, lambda loss: 1024 * loss)
    assert torch.equal(scaled, losses)
    assert_close(take_gradients(adapter), expected)


def test_parts_of_a_batch_add_up_to_its_gradient(tokenizer):
    """As in several processes, each of which divides by the rows of the whole batch."""
    adapter = make_adapter(make_double("bart"))
    backpropagate, examples = make_backpropagation(adapter, tokenizer)
    with backpropagate.prepared():
        backpropagate(examples)
        expected = take_gradients(adapter)
        for part in (examples[:1], examples[1:]):
            backpropagate(part, n_rows=len(examples))
    assert_close(take_gradients(adapter), expected)


def test_a_weight_multiplies_the_gradient_of_its_text(tokenizer):
    adapter = make_adapter(make_double("bart"))
    weights = np.array([2.0, 0.5])
    options = {"texts": TEXTS[:2], "labels": LABELS[:2]}
    weighted, examples = make_backpropagation(adapter, tokenizer, weights=weights, **options)
    plain, others = make_backpropagation(adapter, tokenizer, **options)
    with weighted.prepared():
        weighted(examples)
        found = take_gradients(adapter)
    with plain.prepared():
        one, other = (plain([row]) is None or take_gradients(adapter) for row in others)
    assert_close(found, (2.0 * one + 0.5 * other) / 2)


ALIKE = {"texts": ["good"] * 8, "labels": np.array([0, 1] * 4), "max_batch_tokens": 10_000}
"""Rows of one length."""


def test_less_memory_means_smaller_parts_until_rows_go_one_by_one(tokenizer):
    adapter = make_adapter(make_encoder_decoder("t5"))
    backpropagate, examples = make_backpropagation(adapter, tokenizer, **ALIKE)
    error = RuntimeError("out of memory")
    sizes = []
    with backpropagate.prepared():
        while sizes[-1:] != [1]:
            sizes.append(max(map(len, backpropagate._micro_batches(examples))))
            if sizes[-1] > 1:
                backpropagate.take_less(examples, error)
        with pytest.raises(ScoringError, match="Memory ran out with a single text"):
            backpropagate.take_less(examples, error)
    assert sizes == [8, 4, 2, 1]


def test_a_continued_run_splits_batches_as_the_interrupted_one(tokenizer):
    adapter = make_adapter(make_encoder_decoder("t5"))
    backpropagate, examples = make_backpropagation(adapter, tokenizer, **ALIKE)
    with backpropagate.prepared():
        backpropagate.take_less(examples, RuntimeError("out of memory"))
        state = backpropagate.state()
    again, _ = make_backpropagation(adapter, tokenizer, **ALIKE)
    assert again.state()["n_tokens"] > state["n_tokens"]
    with again.prepared(state):
        assert again.state() == state


# Dropout


DROPOUTS = {
    "t5": {"dropout_rate": 0.5},
    "bart": {"dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5},
}


@pytest.mark.parametrize("family", DROPOUTS)
def test_the_base_model_never_drops_anything(family, tokenizer):
    dropping, plain = (
        make_adapter(make_encoder_decoder(family, **changes))
        for changes in (DROPOUTS[family], dict.fromkeys(DROPOUTS[family], 0.0))
    )
    found = []
    for adapter in (dropping, plain):
        backpropagate, examples = make_backpropagation(adapter, tokenizer)
        with backpropagate.prepared(), adapter.dropping_out(seed=0):
            found.append(backpropagate(examples))
    assert torch.equal(*found)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_seed_decides_what_an_adapter_drops(gradient_checkpointing, tokenizer):
    adapter = make_adapter(make_encoder_decoder("t5"), dropout=0.5)
    backpropagate, examples = make_backpropagation(
        adapter, tokenizer, gradient_checkpointing=gradient_checkpointing
    )
    found = []
    with backpropagate.prepared():
        for seed in (0, 0, 1):
            with adapter.dropping_out(seed):
                backpropagate(examples)
            found.append(take_gradients(adapter))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], rtol=0.1)


def test_gradient_checkpointing_drops_the_same_inputs_again(tokenizer):
    adapter = make_adapter(make_double("t5"), dropout=0.5)
    found = []
    for wanted in (False, True):
        backpropagate, examples = make_backpropagation(
            adapter, tokenizer, gradient_checkpointing=wanted
        )
        with backpropagate.prepared(), adapter.dropping_out(seed=0):
            backpropagate(examples)
        found.append(take_gradients(adapter))
    assert_close(found[1], found[0])


# What cannot be tuned


def test_the_last_layers_alone_are_an_error_with_a_way_out():
    view = shared_view(make_encoder_decoder("t5"))
    settings = LoraSettings(4, 8, 0.0, "all-linear", n_layers=1)
    with pytest.raises(ValueError, match="has an encoder and a decoder. Use n_layers=None"):
        Adapter(view, settings)


def test_an_adapter_that_changes_no_score_is_an_error(tokenizer):
    """T5 keeps the embeddings that its encoder and its decoder share in a layer that never runs."""
    adapter = make_adapter(make_encoder_decoder("t5"), target_modules=("shared",))
    backpropagate, examples = make_backpropagation(adapter, tokenizer)
    with (
        backpropagate.prepared(),
        pytest.raises(ScoringError, match="No module that this adapter changes has a part in the"),
    ):
        backpropagate(examples)


def test_scores_of_a_batch_are_those_of_prompts_alone(tokenizer):
    """Prompts of one batch may have other labels, such as the right one of each text."""
    adapter = make_adapter(make_double("bart"))
    _, examples = make_backpropagation(adapter, tokenizer, loss="lm")
    prompts = [example.prompt for example in examples]
    assert len({id(prompt.trie) for prompt in prompts}) == 2
    start = find_decoder_start(adapter.model, *make_prompt_encoder(tokenizer, WORDS).framed_label)
    forward = EncoderDecoder(adapter.model, start)
    with torch.no_grad():
        alone = torch.cat([forward.label_log_likelihoods([prompt]) for prompt in prompts])
        for n_tokens_at_once in (None, 1, 300):
            found = forward.label_log_likelihoods(prompts, n_tokens_at_once)
            torch.testing.assert_close(found, alone, rtol=0, atol=1e-9)
