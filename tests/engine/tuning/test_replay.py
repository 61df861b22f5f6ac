"""Outputs of frozen layers are computed once, and gradients stay the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from instructclf.engine.models.decoder_layers import named_decoder_layers
from tests.engine.tuning.test_backpropagation import (
    ARCHITECTURES,
    assert_close,
    make_adapter,
    make_backpropagation,
    naive_gradients,
    take_gradients,
)
from tests.engine.tuning.test_training import LABEL_SETS, make_encoder
from tests.fixtures import make_model


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
    """Multiplies logits by an output of the lowest layer, which replay does not run."""

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
def test_frozen_layers_run_in_every_epoch_if_replay_is_impossible_or_useless(
    why, tokenizer, monkeypatch
):
    if why == "no memory":
        monkeypatch.setattr("instructclf.engine.tuning.replay.free_memory", lambda _: 1000)
    model = make_model(dtype=torch.float64)
    if why == "not exact":
        model = ReadsTheFirstLayer._from_config(model.config, dtype=torch.float64).eval()
    if why == "a cache takes part":  # Falcon's layers do not let attention be extended
        model = make_model("falcon", dtype=torch.float64)
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


def test_stored_states_leave_out_padding(tokenizer):
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
