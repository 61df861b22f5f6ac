"""What is minimised, against full prompts that go through the model one at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.tuning.examples import make_examples
from tests.engine.tuning.test_backpropagation import assert_close, make_adapter, take_gradients
from tests.engine.tuning.test_backpropagation import make_backpropagation as make
from tests.engine.tuning.test_training import (
    FROZEN,
    LABEL_SETS,
    LABELS,
    LORA,
    TEXTS,
    assert_same_weights,
    ignore_failed_runs,
    make_base,
    make_encoder,
    tune,
)
from tests.fixtures import make_model

LOSSES = ["lm", "label", "lm+label"]
WEIGHTS = np.array([1.0, 3.0, 2.0, 1.0, 2.0, 1.0])


def log_probabilities(model, encoder, tokenizer, text, words, *, end):
    """Return the log-probabilities of a response's tokens, by a separate forward pass."""
    prompt = tokenizer(encoder.prompt.render(text))["input_ids"]
    whole = tokenizer(encoder.prompt.render(text, words))["input_ids"]
    assert whole[: len(prompt)] == prompt
    whole += [tokenizer.eos_token_id] * end
    logits = model(torch.tensor([whole]), use_cache=False).logits[0]
    steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return steps[range(len(steps)), whole[len(prompt) :]]


def naive_loss(model, encoder, tokenizer, row, *, loss):
    text, label = row
    words = encoder.verbalizer.answers
    scores = torch.stack(
        [
            log_probabilities(
                model,
                encoder,
                tokenizer,
                text,
                answer,
                end=any(w.startswith(answer + " ") for w in words),
            ).sum()
            for answer in words
        ]
    )
    response = log_probabilities(model, encoder, tokenizer, text, words[label], end=True)
    language_loss, label_loss = -response.mean(), scores.logsumexp(0) - scores[label]
    return {"lm": language_loss, "label": label_loss, "lm+label": language_loss + label_loss}[loss]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_gradients_are_those_of_the_definition_of_the_loss(words, loss, tokenizer):
    adapter, encoder = make_adapter(make_model(dtype=torch.float64)), make_encoder(tokenizer, words)
    backpropagate, examples = make(adapter, encoder, loss=loss, weights=WEIGHTS / WEIGHTS.mean())
    with backpropagate.prepared():
        found_loss, _ = backpropagate(examples).tolist()
    found = take_gradients(adapter)
    losses = torch.stack(
        [
            naive_loss(adapter.model, encoder, tokenizer, row, loss=loss)
            for row in zip(TEXTS, LABELS, strict=True)
        ]
    )
    expected = torch.from_numpy(WEIGHTS) @ losses / WEIGHTS.sum()
    expected.backward()
    assert found_loss / len(TEXTS) == pytest.approx(expected.item(), abs=1e-6)
    assert_close(found, take_gradients(adapter), 1e-6)


def test_each_loss_computes_only_what_it_reads(tokenizer):
    """Compare the nodes after a prompt that go through the model, and the entries that are read."""
    encoder = make_encoder(tokenizer, ["very negative", "very positive", "so so"])
    n_words = {
        words: len(tokenizer(" " + words)["input_ids"]) for words in encoder.verbalizer.answers
    }
    assert all(n > 1 for n in n_words.values())
    tries = {
        loss: make_examples(encoder, ["x"], np.array([1]), loss=loss)[0].prompt.trie
        for loss in LOSSES
    }
    n_nodes = {loss: len(trie.tokens) for loss, trie in tries.items()}
    n_labels = {loss: trie.n_labels for loss, trie in tries.items()}
    assert tries["label"] is encoder.encode(["x"])[0].trie.relative
    assert n_nodes["lm+label"] == n_nodes["label"] + 1  # the label's last token, before the end
    assert n_nodes["lm"] < n_nodes["label"]
    assert n_labels == {"label": 3, "lm": 2, "lm+label": 4}


@ignore_failed_runs
def test_the_label_loss_of_lm_is_the_likelihood_of_the_right_words(tokenizer):
    base, encoder = (
        make_base(tokenizer),
        make_encoder(tokenizer, ["very negative", "very positive"]),
    )
    _, record = tune(base, encoder, loss="lm", **FROZEN)
    scores = LocalLabelScorer(shared_view(base.model), encoder).score(TEXTS)
    right = scores[np.arange(len(TEXTS)), LABELS]
    assert record.label_loss_curve[0] == pytest.approx(-right.mean(), abs=1e-5)


@ignore_failed_runs
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_is_learned(loss, tokenizer):
    base = make_base(tokenizer)
    adapter, record = tune(base, loss=loss, max_epochs=12)
    assert record.loss_curve[-1] < 0.5 * record.loss_curve[0]
    scores = LocalLabelScorer(adapter.model, make_encoder(tokenizer)).score(TEXTS)
    assert (scores.argmax(axis=1) == LABELS).all()


@ignore_failed_runs
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_the_sum_of_both_losses_is_lm_plus_label(words, tokenizer):
    base, encoder = make_base(tokenizer), make_encoder(tokenizer, words)
    records = {loss: tune(base, encoder, loss=loss, **FROZEN)[1] for loss in LOSSES}
    parts = records["lm"].loss_curve[0] + records["label"].loss_curve[0]
    assert records["lm+label"].loss_curve[0] == pytest.approx(parts, abs=1e-5)
    assert records["label"].label_loss_curve == records["label"].loss_curve


# Weights


def repeated(weights):
    return np.repeat(np.arange(len(TEXTS)), weights.astype(int))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_equals_repeated_rows(loss, tokenizer):
    weights = np.array([1.0, 3.0, 0.0, 1.0, 2.0, 1.0])
    rows = repeated(weights)
    adapter, encoder = make_adapter(make_model(dtype=torch.float64)), make_encoder(tokenizer)
    gradients = []
    for options in (
        {"weights": weights / weights.mean()},
        {"texts": [TEXTS[i] for i in rows], "labels": LABELS[rows]},
    ):
        backpropagate, examples = make(adapter, encoder, loss=loss, **options)
        with backpropagate.prepared():
            backpropagate(examples)
        gradients.append(take_gradients(adapter))
    assert_close(*gradients, 1e-6)


def test_the_gradient_of_a_row_does_not_depend_on_other_weights(tokenizer):
    """A batch of one row is not scaled back to a weight of 1."""
    adapter, encoder = make_adapter(make_model(dtype=torch.float64)), make_encoder(tokenizer)
    unweighted, examples = make(adapter, encoder)
    with unweighted.prepared():
        unweighted(examples[1:2])
    expected = [3.0 * gradient for gradient in take_gradients(adapter)]
    weighted, examples = make(adapter, encoder, weights=WEIGHTS)
    with weighted.prepared():
        weighted(examples[1:2])
    assert_close(take_gradients(adapter), expected, 1e-6)


@ignore_failed_runs
def test_rows_of_weight_0_are_left_out(tokenizer):
    base, kept = make_base(tokenizer), [0, 1, 3, 5]
    weights = np.where(np.isin(np.arange(len(TEXTS)), kept), 2.0, 0.0)
    weighted, record = tune(base, weights=weights, batch_size=2)
    rest, expected = tune(base, texts=[TEXTS[i] for i in kept], labels=LABELS[kept], batch_size=2)
    assert_same_weights(weighted.state(), rest.state())
    assert record.loss_curve == expected.loss_curve


@ignore_failed_runs
@pytest.mark.parametrize("scale", [0.1, 1.0, 7.0])
def test_equal_weights_change_nothing(scale, tokenizer):
    base = make_base(tokenizer, dtype=torch.float64)
    unweighted, weighted = tune(base), tune(base, weights=np.full(len(TEXTS), scale))
    assert_same_weights(unweighted[0].state(), weighted[0].state(), atol=1e-7)
    assert weighted[1].loss_curve == pytest.approx(unweighted[1].loss_curve)


@ignore_failed_runs
def test_only_the_ratios_of_weights_matter(tokenizer):
    base = make_base(tokenizer, dtype=torch.float64)
    one, other = (tune(base, weights=scale * WEIGHTS, batch_size=2) for scale in (1.0, 100.0))
    assert_same_weights(one[0].state(), other[0].state(), atol=1e-7)


@ignore_failed_runs
def test_the_loss_curve_is_the_weighted_mean(tokenizer):
    base = make_base(tokenizer)
    losses = [
        tune(base, texts=[text], labels=LABELS[i : i + 1], **FROZEN)[1].loss_curve[0]
        for i, text in enumerate(TEXTS)
    ]
    _, record = tune(base, weights=WEIGHTS, batch_size=4, **FROZEN)
    assert record.loss_curve[0] == pytest.approx(np.average(losses, weights=WEIGHTS), abs=1e-5)


# Starting from an earlier adapter


@ignore_failed_runs
def test_a_start_continues_from_an_earlier_adapter(tokenizer):
    base = make_base(tokenizer)
    adapter, _ = tune(base, max_epochs=2)
    earlier = adapter.state()
    again, record = tune(base, start=earlier, **FROZEN)
    assert_same_weights(again.state(), earlier)
    _, anew = tune(base, **FROZEN)
    assert record.loss_curve[0] < anew.loss_curve[0]


def test_a_start_of_another_shape_is_an_error_with_a_way_out(tokenizer):
    base = make_base(tokenizer)
    with pytest.warns(UserWarning, match="another seed"):
        earlier = tune(base, **FROZEN)[0].state()
    lora = dataclasses.replace(LORA, rank=2)
    match = (
        r"earlier adapter do not fit: .*lora_A.* \(4, 48\) there and \(2, 48\) here, .*"
        r"training_options=TrainingOptions\(warm_start=False\)"
    )
    with pytest.raises(ValueError, match=match):
        tune(base, start=earlier, adapter=lora)
