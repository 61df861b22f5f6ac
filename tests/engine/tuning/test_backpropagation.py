"""Gradients of batches are those of a loop over full prompts, however batches are split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from instructclf.engine.models.decoder_layers import n_frozen_layers
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.layouts import row_layout
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from instructclf.engine.tuning.backpropagation import Backpropagation
from instructclf.engine.tuning.examples import make_examples, response_losses, shared_ids
from instructclf.engine.tuning.tuned_prefixes import DifferentiablePrefixAttention
from instructclf.exceptions import ScoringError
from tests.engine.tuning.test_training import LABEL_SETS, LABELS, TEXTS, make_encoder
from tests.fixtures import make_model

ARCHITECTURES = ["llama", "gpt2", "gpt_neox", "gemma", "qwen3"]


def make_adapter(model, n_tuned=None):
    adapter = Adapter(shared_view(model), LoraSettings(4, 8, 0.0, "all-linear", n_tuned), seed=0)
    with torch.no_grad():  # B is 0 at first, where A has no gradient
        for parameter in adapter.parameters:
            parameter.add_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
    return adapter


def make_backpropagation(
    adapter, encoder, *, texts=TEXTS, labels=LABELS, loss="lm+label", weights=None, **changes
):
    examples = make_examples(encoder, texts, labels, loss=loss, weights=weights)
    backpropagate = Backpropagation(
        adapter.model,
        examples,
        shared_ids(encoder, examples),
        n_frozen_layers=n_frozen_layers(adapter.model, changes.get("n_tuned")),
        n_epochs=changes.get("n_epochs", 1),
        max_batch_tokens=changes.get("budget", 150),
        gradient_checkpointing=changes.get("gradient_checkpointing", False),
    )
    return backpropagate, examples


def take_gradients(adapter):
    found = [parameter.grad for parameter in adapter.parameters]
    for parameter in adapter.parameters:
        parameter.grad = None
    return found


def naive_gradients(adapter, examples):
    """Full prompts, one at a time, no shortcut."""
    for example in examples:
        scores = label_log_likelihoods(adapter.model, [example.prompt], row_layout)
        loss, _ = response_losses(scores, [example])
        (loss.sum() / len(examples)).backward()
    return take_gradients(adapter)


def assert_close(found, expected, share):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= share * other.norm()


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
@pytest.mark.parametrize(("dtype", "share"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_gradients_are_those_of_a_loop_over_full_prompts(words, dtype, share, tokenizer):
    adapter = make_adapter(make_model(dtype=dtype))
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer, words))
    with backpropagate.prepared():
        backpropagate(examples)
    assert_close(take_gradients(adapter), naive_gradients(adapter, examples), share)


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_of_the_label_loss_are_those_of_log_softmaxes_over_the_vocabulary(
    architecture, words, tokenizer
):
    adapter = make_adapter(make_model(architecture))
    encoder = make_encoder(tokenizer, words)
    backpropagate, examples = make_backpropagation(adapter, encoder, loss="label")
    with backpropagate.prepared():
        found = backpropagate(examples)
    gradients = take_gradients(adapter)
    whole = [
        replace(each, prompt=replace(each.prompt, trie=replace(each.prompt.trie, groups=())))
        for each in examples
    ]
    assert_close(gradients, naive_gradients(adapter, whole), 1e-4)
    with torch.no_grad():
        scores = torch.cat(
            [label_log_likelihoods(adapter.model, [each.prompt], row_layout) for each in whole]
        )
    losses, _ = response_losses(scores, whole)
    assert found[0].item() == pytest.approx(losses.sum().item(), rel=1e-4)


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_checkpointing_gives_the_same_gradients(architecture, words, tokenizer):
    adapter = make_adapter(make_model(architecture, dtype=torch.float64))
    encoder = make_encoder(tokenizer, words)
    backpropagate, examples = make_backpropagation(adapter, encoder, gradient_checkpointing=True)
    with backpropagate.prepared():
        backpropagate(examples)
        assert len(set(map(prefix_of(backpropagate), examples))) == 1
    assert_close(take_gradients(adapter), naive_gradients(adapter, examples), 1e-6)


def prefix_of(backpropagate):
    return lambda example: backpropagate._strategies.choose(example.prompt).prefix


@pytest.mark.parametrize("gradient_checkpointing", [False, True], ids=["kept", "checkpoints"])
def test_beyond_a_window_no_row_copies_the_prefix(gradient_checkpointing, tokenizer):
    adapter = make_adapter(make_model("mistral", sliding_window=24, dtype=torch.float64))
    backpropagate, examples = make_backpropagation(
        adapter, make_encoder(tokenizer), gradient_checkpointing=gradient_checkpointing
    )
    with backpropagate.prepared():
        backpropagate(examples)
        assert set(map(prefix_of(backpropagate), examples)) == {DifferentiablePrefixAttention}
    assert_close(take_gradients(adapter), naive_gradients(adapter, examples), 1e-6)


def test_gradient_checkpointing_keeps_less(tokenizer):
    def n_kept(*, gradient_checkpointing):
        adapter = make_adapter(make_model(num_hidden_layers=6))
        backpropagate, examples = make_backpropagation(
            adapter, make_encoder(tokenizer), gradient_checkpointing=gradient_checkpointing
        )
        kept = []

        def note(tensor):
            kept.append(tensor.numel())
            return tensor

        with backpropagate.prepared():
            backpropagate._micro_batches(examples)  # tries strategies
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                part = backpropagate._compute_prefix(prefix_of(backpropagate)(examples[0]))
                assert part.length > 0
        return sum(kept)

    assert n_kept(gradient_checkpointing=True) < 0.3 * n_kept(gradient_checkpointing=False)


@pytest.mark.parametrize("budget", [1, 40, 150, 10_000])
def test_gradients_do_not_depend_on_the_budget(budget, tokenizer):
    adapter = make_adapter(make_model(dtype=torch.float64))
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer), budget=budget)
    with backpropagate.prepared():
        backpropagate(examples)
    assert_close(take_gradients(adapter), naive_gradients(adapter, examples), 1e-6)


def test_losses_are_sums_over_the_batch(tokenizer):
    adapter = make_adapter(make_model(dtype=torch.float64))
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer))
    with backpropagate.prepared():
        whole = backpropagate(examples)
        parts = backpropagate(examples[:2]) + backpropagate(examples[2:])
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)


def test_a_scaled_loss_scales_the_gradients_and_not_the_reported_loss(tokenizer):
    adapter = make_adapter(make_model(dtype=torch.float64))
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer))
    with backpropagate.prepared():
        losses = backpropagate(examples)
        expected = [1024 * gradient for gradient in take_gradients(adapter)]
        scaled = backpropagate(examples, lambda loss: 1024 * loss)
    assert torch.equal(scaled, losses)
    assert_close(take_gradients(adapter), expected, 1e-9)


def test_parts_of_a_batch_add_up_to_its_gradient(tokenizer):
    """As in several processes, each of which divides by the rows of the whole batch."""
    adapter = make_adapter(make_model(dtype=torch.float64))
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer))
    with backpropagate.prepared():
        backpropagate(examples)
        expected = take_gradients(adapter)
        for part in (examples[:1], examples[1:]):
            backpropagate(part, n_rows=len(examples))
    assert_close(take_gradients(adapter), expected, 1e-6)


ALIKE = {"texts": ["good"] * 8, "labels": np.array([0, 1] * 4), "budget": 10_000}
"""Rows of one length."""


def test_less_memory_means_smaller_parts_until_rows_go_one_by_one(tokenizer):
    adapter = make_adapter(make_model())
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer), **ALIKE)
    error = RuntimeError("out of memory")
    sizes = []
    with backpropagate.prepared():
        while sizes[-1:] != [1]:
            sizes.append(max(len(part) for _, part in backpropagate._micro_batches(examples)))
            if sizes[-1] > 1:
                backpropagate.take_less(examples, error)
        with pytest.raises(ScoringError, match="Memory ran out with a single text"):
            backpropagate.take_less(examples, error)
    assert sizes == [8, 4, 2, 1]


def test_a_continued_run_splits_batches_as_the_interrupted_one(tokenizer):
    adapter = make_adapter(make_model(), n_tuned=1)
    options = {**ALIKE, "n_tuned": 1, "n_epochs": 2}
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer), **options)
    with backpropagate.prepared():
        backpropagate.take_less(examples, RuntimeError("out of memory"))
        state = backpropagate.state()
    again, _ = make_backpropagation(adapter, make_encoder(tokenizer), **options)
    assert again.state()["n_tokens"] > state["n_tokens"]
    with again.prepared(state):
        assert again.state() == state
    with again.prepared(state | {"replays": False}):
        assert not again.state()["replays"]


def test_the_attention_function_is_restored(tokenizer):
    adapter = make_adapter(make_model())
    backpropagate, examples = make_backpropagation(adapter, make_encoder(tokenizer))
    before = adapter.model.config._attn_implementation
    with backpropagate.prepared():
        backpropagate(examples)
        assert adapter.model.config._attn_implementation != before
    assert adapter.model.config._attn_implementation == before
