"""Base weights in 4 bits on the device take less memory, score alike, and take adapters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf import (
    InstructionTunedClassifier,
    ModelOptions,
    PromptClassifier,
    TrainingOptions,
)
from instructclf.datasets import load_reviews
from instructclf.engine.models.registry import get_base_model
from tests.gpu.devices import DEVICE, ON_DEVICE, SHORT_RUNS

pytestmark = [*ON_DEVICE, SHORT_RUNS]

REVIEWS = load_reviews("train")


def make_options(quantization=None):
    return ModelOptions(device=DEVICE, dtype="bfloat16", quantization=quantization)


@pytest.fixture(autouse=True)
def _bitsandbytes():
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")


def count_bytes(model):
    return sum(p.numel() * p.element_size() for p in model.parameters())


def test_layers_take_less_than_a_third_of_their_memory():
    whole, small = (
        get_base_model(
            "bundled", device=DEVICE, dtype="bfloat16", quantization=quantization
        ).model.model.layers
        for quantization in (None, "4bit")
    )
    assert count_bytes(small) < count_bytes(whole) / 3


def test_scores_stay_near_those_of_whole_weights():
    texts, labels = REVIEWS.texts, REVIEWS.labels
    whole, small = (
        PromptClassifier(n_shots=8, model_options=make_options(quantization), random_state=0)
        .fit(texts[:64], labels[:64])
        .label_log_likelihood(texts[64:128])
        for quantization in (None, "4bit")
    )
    assert np.isfinite(small).all()
    assert np.corrcoef(whole[:, 0], small[:, 0])[0, 1] > 0.8


def test_an_adapter_is_trained_and_does_not_change_them():
    base = get_base_model("bundled", device=DEVICE, dtype="bfloat16", quantization="4bit").model
    before = [parameter.clone() for parameter in base.parameters()]
    classifier = InstructionTunedClassifier(
        max_epochs=4,
        training_options=TrainingOptions(target_loss=0.0),
        model_options=make_options("4bit"),
        random_state=0,
    ).fit(REVIEWS.texts[:32], REVIEWS.labels[:32])
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0]
    assert {weight.dtype for weight in classifier.adapter_.values()} == {torch.float32}
    pairs = zip(before, base.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)
