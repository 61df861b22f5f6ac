"""Adapters are tuned on the simulated device, in every precision and over two devices."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from instructclf import InstructionTunedClassifier, LoRA, ModelOptions, TrainingOptions, load
from instructclf.engine.tuning.optimiser import Optimiser
from tests.engine.tuning.attention.test_joint import (
    HEADS,
    check_full_precision,
    check_half_precision,
)
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

SPREAD = {"model.embed_tokens": 0, "model.layers.0": 0, "model.rotary_emb": 0}
SPREAD |= {"model.layers.1": 1, "model.norm": 1, "lm_head": 1}
"""The second decoder layer and what follows it are on the second device."""
WORDS = {"positive": "really very positive", "negative": "rather very bad"}


def tuned(model, **changes):
    classifier = InstructionTunedClassifier(
        model,
        n_shots=6,
        learning_rate=0.01,
        max_epochs=2,
        batch_size=4,
        random_state=0,
        calibration=None,
    )
    return classifier.set_params(verbalizer=WORDS, **changes).fit(TEXTS, LABELS)


def assert_alike(found, expected, atol=1e-3):
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, atol=atol)
    for name, weight in expected.adapter_.items():
        np.testing.assert_allclose(found.adapter_[name], weight, atol=atol, err_msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training_options": TrainingOptions(gradient_checkpointing=True)},
        {"adapter": LoRA(n_layers=1)},
        {
            "adapter": LoRA(n_layers=1),
            "training_options": TrainingOptions(gradient_checkpointing=True),
        },
        {"model_options": ModelOptions(max_batch_tokens=64)},
    ],
    ids=["", "checkpointing", "replay", "replay, checkpointing", "small batches"],
)
def test_in_full_precision_an_adapter_is_that_of_the_cpu(machine, model_folder, changes):
    changes = {"model_options": ModelOptions(), **changes}
    both = [
        tuned(model_folder, **changes, model_options__device=device, model_options__dtype="float32")
        for device in ("cuda", "cpu")
    ]
    assert_alike(*both)
    np.testing.assert_allclose(*(one.label_log_likelihood(TEXTS) for one in both), atol=1e-3)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma", "mistral", "bloom"])
def test_other_architectures_are_tuned_as_on_the_cpu(machine, architecture):
    assert_alike(
        *(
            tuned((make_model(architecture).to(device), make_tokenizer()))
            for device in ("cuda", "cpu")
        )
    )


@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["", "dropout"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_an_adapter_learns_in_full_precision(
    machine, model_folder, dtype, dropout
):
    options = {"model_options": ModelOptions(dtype=dtype), "adapter__dropout": dropout}
    found = tuned(model_folder, **options, max_epochs=6, n_shots=None)
    assert found.loss_curve_[-1] < found.loss_curve_[0] / 2
    assert {weight.dtype for weight in found.adapter_.values()} == {torch.float32}
    assert found.score(TEXTS, LABELS) == 1.0


def test_a_run_with_dropout_is_repeated_by_its_seed(machine, model_folder):
    one, same = (tuned(model_folder, adapter__dropout=0.5) for _ in range(2))
    assert_alike(one, same, atol=0)


@pytest.mark.parametrize("n_layers", [None, 1], ids=["all layers", "the last layer"])
def test_a_model_spread_over_two_devices_is_tuned_as_on_the_cpu(machine, model_folder, n_layers):
    adapter = LoRA(n_layers=n_layers)
    options = ModelOptions(device_map=SPREAD, dtype="float32")
    spread = tuned(model_folder, adapter=adapter, model_options=options)
    devices = {str(w.device) for w in spread.open_model().base.model.parameters()}
    assert devices == {"cuda:0", "cuda:1"}
    cpu = tuned(model_folder, adapter=adapter, model_options=ModelOptions(device="cpu"))
    assert_alike(spread, cpu)
    np.testing.assert_allclose(
        spread.label_log_likelihood(TEXTS), cpu.label_log_likelihood(TEXTS), atol=1e-3
    )


def test_frozen_layers_are_replayed_beyond_the_first_device(machine, tmp_path, caplog):
    make_model(num_hidden_layers=3).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    options = ModelOptions(device_map=SPREAD | {"model.layers.2": 1}, dtype="float32")
    with caplog.at_level(logging.DEBUG, "instructclf.engine.tuning.replay"):
        tuned(str(tmp_path), adapter=LoRA(n_layers=1), model_options=options)
    assert "Replayed scores differ by" in caplog.text
    assert "cannot be replayed" not in caplog.text


def test_a_spread_model_with_dropout_leaves_random_numbers_as_they_were(machine, model_folder):
    before = [torch.get_rng_state(), *(gpu.random_state for gpu in machine.gpus)]
    options = {"model_options": ModelOptions(device_map=SPREAD), "adapter__dropout": 0.5}
    one, same = (tuned(model_folder, **options) for _ in range(2))
    assert_alike(one, same, atol=0)
    after = [torch.get_rng_state(), *(gpu.random_state for gpu in machine.gpus)]
    assert all(map(torch.equal, before, after))


def test_a_saved_classifier_scores_alike_on_another_device(machine, model_folder, tmp_path):
    first = tuned(model_folder, model_options=ModelOptions(device="cuda:0", dtype="float32"))
    first.save(tmp_path / "saved")
    expected = first.label_log_likelihood(TEXTS)
    for device in ("cuda:1", "cpu"):
        loaded = load(tmp_path / "saved").set_params(model_options__device=device)
        np.testing.assert_allclose(loaded.label_log_likelihood(TEXTS), expected, atol=1e-4)


def test_a_run_that_continues_draws_the_random_numbers_of_both_devices(
    machine, model_folder, tmp_path
):
    options = {
        "model_options": ModelOptions(device_map=SPREAD, dtype="float32"),
        "adapter__dropout": 0.5,
    }
    expected = tuned(model_folder, **options)
    options["training_options"] = TrainingOptions(checkpoint_dir=tmp_path / "runs")
    step, n_steps = Optimiser.step, 0

    def stopped(self, losses):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 2:
            raise KeyboardInterrupt
        return step(self, losses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("instructclf.engine.tuning.checkpoints._SHARE_OF_TIME", 1e9)  # each step
        patch.setattr(Optimiser, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            tuned(model_folder, **options)
    assert_alike(tuned(model_folder, **options), expected, atol=0)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("kind", ["causal", "boolean", "additive"])
@pytest.mark.parametrize("width", [8, 6])
@pytest.mark.parametrize("is_windowed", [False, True], ids=["whole prefix", "windows"])
@pytest.mark.usefixtures("machine")
def test_attention_in_full_precision_has_the_outputs_and_gradients_of_one_softmax(
    heads, kind, width, is_windowed, monkeypatch
):
    monkeypatch.setattr("tests.engine.tuning.attention.test_joint.WIDTH", width)
    check_full_precision("cuda", heads, kind, is_windowed=is_windowed)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.usefixtures("machine")
def test_rows_of_one_token_have_the_outputs_and_gradients_of_one_softmax(heads, monkeypatch):
    monkeypatch.setattr("tests.engine.tuning.attention.test_joint.LENGTH", 1)
    check_full_precision("cuda", heads, "causal")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("is_masked", [True, False], ids=["masked", "causal"])
def test_attention_in_half_precision_is_about_as_close_as_that_of_one_fused_kernel(
    machine, dtype, heads, is_masked
):
    check_half_precision("cuda", dtype, heads, is_masked=is_masked)
