"""A run takes its steps in an order that its seed decides, stops in time, and can be continued."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.adapters import Adapter
from instructclf.engine.tuning.backpropagation import Backpropagation
from instructclf.engine.tuning.checkpoints import Checkpoint
from instructclf.engine.tuning.examples import make_examples, shared_ids
from instructclf.engine.tuning.runs import Run
from tests.engine.tuning.test_training import (
    LABELS,
    LORA,
    SETTINGS,
    TEXTS,
    assert_same_weights,
    make_encoder,
)
from tests.fixtures import make_model

DROPS = dataclasses.replace(LORA, dropout=0.3)


class Interrupted(Exception):  # noqa: N818  (not an error of the package)
    """Stands for a process that is killed."""


class RecordingBackpropagation(Backpropagation):
    """Notes which examples each step reads, and may be interrupted."""

    def __init__(self, *arguments, n_steps=None, **options):
        super().__init__(*arguments, **options)
        self.batches = []
        self._n_steps = n_steps

    def __call__(self, batch, scale=None, n_rows=None):
        if len(self.batches) == self._n_steps:
            raise Interrupted
        self.batches.append([self._examples.index(example) for example in batch])
        return super().__call__(batch, scale, n_rows)


def make_run(tokenizer, *, seed=0, lora=LORA, n_steps=None, **changes):
    """Return a run, its adapter and what computes its gradients."""
    settings = dataclasses.replace(SETTINGS, **changes)
    encoder = make_encoder(tokenizer)
    examples = make_examples(encoder, TEXTS, LABELS, loss=settings.loss)
    adapter = Adapter(shared_view(make_model()), lora, seed)
    backpropagate = RecordingBackpropagation(
        adapter.model,
        examples,
        shared_ids(encoder, examples),
        n_frozen_layers=0,
        n_epochs=settings.max_epochs,
        max_batch_tokens=settings.max_batch_tokens,
        gradient_checkpointing=settings.gradient_checkpointing,
        n_steps=n_steps,
    )
    return Run(adapter, examples, settings, backpropagate, seed=seed), adapter, backpropagate


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Return the file of a run, written after every step."""
    monkeypatch.setattr("instructclf.engine.tuning.checkpoints._SHARE_OF_TIME", float("inf"))
    return Checkpoint(tmp_path, "0" * 40)


@pytest.mark.parametrize("batch_size", [1, 4, 6, 9])
def test_every_epoch_reads_each_row_once_in_batches(batch_size, tokenizer):
    run, _, backpropagate = make_run(tokenizer, batch_size=batch_size)
    run.train(verbose=0)
    n_batches = -(-len(TEXTS) // batch_size)
    assert len(backpropagate.batches) == 3 * n_batches
    for epoch in range(3):
        batches = backpropagate.batches[epoch * n_batches : (epoch + 1) * n_batches]
        assert all(len(batch) <= batch_size for batch in batches)
        assert sorted(row for batch in batches for row in batch) == list(range(len(TEXTS)))


def test_epochs_have_different_orders_that_the_seed_decides(tokenizer):
    orders = {}
    for name, seed in {"one": 0, "same": 0, "other": 1}.items():
        run, _, backpropagate = make_run(tokenizer, seed=seed, batch_size=6)
        run.train(verbose=0)
        orders[name] = backpropagate.batches
    assert orders["one"] == orders["same"] != orders["other"]
    assert len({tuple(order) for order in orders["one"]}) == 3


@pytest.mark.parametrize("lora", [LORA, DROPS], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 5], ids=lambda n: f"after {n} steps")
def test_an_interrupted_run_ends_as_if_it_had_not_been(lora, n_steps, tokenizer, checkpoint):
    whole, expected, _ = make_run(tokenizer, lora=lora)
    record = whole.train(verbose=0)
    cut_off, _, _ = make_run(tokenizer, lora=lora, n_steps=n_steps)
    with pytest.raises(Interrupted):
        cut_off.train(checkpoint, verbose=0)
    again, adapter, backpropagate = make_run(tokenizer, lora=lora)
    assert again.train(checkpoint, verbose=0) == record
    assert_same_weights(adapter.state(), expected.state())
    assert len(backpropagate.batches) == 6 - n_steps


def test_a_finished_run_is_read_and_not_repeated(tokenizer, checkpoint):
    run, expected, _ = make_run(tokenizer)
    record = run.train(checkpoint, verbose=0)
    again, adapter, backpropagate = make_run(tokenizer)
    assert again.train(checkpoint, verbose=0) == record
    assert backpropagate.batches == []
    assert_same_weights(adapter.state(), expected.state())


def test_the_file_of_a_finished_run_holds_weights_only(tokenizer, checkpoint):
    run, adapter, _ = make_run(tokenizer, lora=DROPS)
    run.train(checkpoint, verbose=0)
    _, tensors = checkpoint.read()
    assert set(tensors) == {f"weight.{i}" for i in range(len(adapter.parameters))}


def test_checkpoints_change_no_result(tokenizer, checkpoint):
    (one, adapter, _), (other, expected, _) = (make_run(tokenizer, lora=DROPS) for _ in range(2))
    assert one.train(checkpoint, verbose=0) == other.train(verbose=0)
    assert_same_weights(adapter.state(), expected.state())


def test_the_adapter_drops_nothing_after_training(tokenizer):
    run, adapter, _ = make_run(tokenizer, lora=DROPS)
    run.train(verbose=0)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(adapter.model(ids).logits, adapter.model(ids).logits)
