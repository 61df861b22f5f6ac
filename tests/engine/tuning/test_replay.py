"""What frozen layers make of a prompt is computed once, and gradients stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from instructclf.engine.models.decoder_layers import n_frozen_layers, named_decoder_layers
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.layouts import row_layout
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from instructclf.engine.tuning.backpropagation import Backpropagation
from instructclf.engine.tuning.examples import make_examples, response_losses, shared_ids
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


# Gradients of batches


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
def test_checkpoints_leave_gradients_as_they_are(architecture, words, tokenizer):
    adapter = make_adapter(make_model(architecture, dtype=torch.float64))
    encoder = make_encoder(tokenizer, words)
    backpropagate, examples = make_backpropagation(adapter, encoder, gradient_checkpointing=True)
    with backpropagate.prepared():
        backpropagate(examples)
        assert len(set(map(prefix_of(backpropagate), examples))) == 1
    assert_close(take_gradients(adapter), naive_gradients(adapter, examples), 1e-6)


def prefix_of(backpropagate):
    return lambda example: backpropagate._strategies.choose(example.prompt).prefix


def test_checkpoints_keep_less(tokenizer):
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


# Frozen layers


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("checkpoints", [False, True], ids=["", "with checkpoints"])
def test_replayed_layers_give_the_gradients_of_full_prompts(
    architecture, words, checkpoints, tokenizer
):
    adapter = make_adapter(make_model(architecture, dtype=torch.float64), n_tuned=1)
    backpropagate, examples = make_backpropagation(
        adapter,
        make_encoder(tokenizer, words),
        n_tuned=1,
        n_epochs=2,
        gradient_checkpointing=checkpoints,
    )
    expected = naive_gradients(adapter, examples)
    with backpropagate.prepared():
        assert backpropagate._replay is not None
        for batch in ([4, 1, 0, 5, 3, 2], [0, 2, 1, 3, 4, 5]):  # other neighbours, other padding
            backpropagate([examples[position] for position in batch])
            assert_close(take_gradients(adapter), expected, 1e-6)


def test_frozen_layers_run_once_for_all_epochs(tokenizer):
    adapter = make_adapter(make_model(), n_tuned=1)
    frozen, tuned = named_decoder_layers(adapter.model).values()
    backpropagate, examples = make_backpropagation(
        adapter, make_encoder(tokenizer), n_tuned=1, n_epochs=3
    )
    n_runs = {"frozen": 0, "tuned": 0}
    with backpropagate.prepared():
        for name, layer in (("frozen", frozen.self_attn), ("tuned", tuned.self_attn)):
            layer.register_forward_pre_hook(
                lambda *_, name=name: n_runs.update({name: n_runs[name] + 1})
            )
        for _ in range(3):
            backpropagate(examples)
    assert n_runs["frozen"] == 0
    assert n_runs["tuned"] > 3


def test_all_layers_run_again_after_tuning(tokenizer):
    adapter = make_adapter(make_model(), n_tuned=1)
    ids = torch.arange(3, 30).view(1, -1)
    before = adapter.model(ids).logits
    backpropagate, _ = make_backpropagation(
        adapter, make_encoder(tokenizer), n_tuned=1, n_epochs=2, gradient_checkpointing=True
    )
    with backpropagate.prepared():
        pass
    assert backpropagate._replay is None
    assert adapter.model.config._attn_implementation == "sdpa"
    assert torch.equal(adapter.model(ids).logits, before)


class ReadsTheFirstLayer(LlamaForCausalLM):
    """Reads what the lowest layer makes of the first token, past all layers between."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        returned = []
        handle = self.model.layers[0].register_forward_hook(
            lambda _, inputs, output: returned.append(output)
        )
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        handle.remove()
        output.logits = output.logits * (1 + returned[0][0, 0].mean())
        return output


@pytest.mark.parametrize(
    "why", ["one epoch", "no layer is frozen", "no memory", "not exact", "a cache takes part"]
)
def test_frozen_layers_run_in_every_epoch_where_replay_makes_no_sense(why, tokenizer, monkeypatch):
    if why == "no memory":
        monkeypatch.setattr("instructclf.engine.tuning.replay.free_memory", lambda _: 1000)
    model = make_model(dtype=torch.float64)
    if why == "not exact":
        model = ReadsTheFirstLayer._from_config(model.config, dtype=torch.float64).eval()
    if why == "a cache takes part":
        model.set_attn_implementation("eager")
    n_tuned = None if why == "no layer is frozen" else 1
    adapter = make_adapter(model, n_tuned)
    backpropagate, examples = make_backpropagation(
        adapter,
        make_encoder(tokenizer),
        n_tuned=n_tuned,
        n_epochs=1 if why == "one epoch" else 2,
    )
    with backpropagate.prepared():
        assert backpropagate._replay is None
        backpropagate(examples)
    assert_close(take_gradients(adapter), naive_gradients(adapter, examples), 1e-6)


def test_stored_states_are_those_of_tokens_and_not_of_padding(tokenizer):
    adapter = make_adapter(make_model(), n_tuned=1)
    backpropagate, examples = make_backpropagation(
        adapter, make_encoder(tokenizer), n_tuned=1, n_epochs=2, budget=10_000
    )
    with backpropagate.prepared():
        stored = backpropagate._replay._hidden
        n_shared = len(backpropagate._prefix_ids)
        lengths = [
            example.prompt.n_tokens - n_shared + len(example.prompt.trie.tokens) - 1
            for example in examples
        ]
        np.testing.assert_array_equal([len(stored[e.prompt]) for e in examples], lengths)
        assert len(set(lengths)) > 1
