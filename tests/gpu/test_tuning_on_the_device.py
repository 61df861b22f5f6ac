"""Adapters are trained on the device in float32, whatever the type of the base weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf import ModelOptions
from instructclf.engine.models.registry import get_base_model
from tests.fixtures import LABELS, TEXTS
from tests.gpu.devices import DEVICE, ON_DEVICE, SHORT_RUNS

pytestmark = ON_DEVICE

DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


@DTYPES
@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["no dropout", "dropout"])
def test_an_adapter_learns_in_float32_on_any_base(make_tuning, dtype, dropout):
    classifier = make_tuning(
        model_options=ModelOptions(device=DEVICE, dtype=dtype),
        n_shots=None,
        max_epochs=6,
        adapter__dropout=dropout,
    ).fit(TEXTS, LABELS)
    assert classifier.score(TEXTS, LABELS) == 1.0
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0]
    assert {weight.dtype for weight in classifier.adapter_.values()} == {torch.float32}
    assert all(torch.isfinite(weight).all() for weight in classifier.adapter_.values())


@SHORT_RUNS
@DTYPES
def test_the_base_model_does_not_change(make_tuning, model_folder, dtype):
    base = get_base_model(model_folder, device=DEVICE, dtype=dtype).model
    before = {name: weight.clone() for name, weight in base.named_parameters()}
    make_tuning(model_options=ModelOptions(device=DEVICE, dtype=dtype)).fit(TEXTS, LABELS)
    after = dict(base.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


@SHORT_RUNS
def test_the_first_loss_is_that_of_the_cpu(make_tuning):
    options = {"n_shots": None, "max_epochs": 1, "batch_size": len(TEXTS)}
    losses = [
        make_tuning(
            model_options=ModelOptions(device=device, dtype="float32"),
            training_options__target_loss=100.0,
            **options,
        )
        .fit(TEXTS, LABELS)
        .loss_curve_[0]
        for device in ("cpu", DEVICE)
    ]
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-3)


@SHORT_RUNS
def test_the_same_seed_gives_the_same_adapter(make_tuning):
    adapters = [
        make_tuning(model_options__device=DEVICE).fit(TEXTS, LABELS).adapter_ for _ in range(2)
    ]
    for name, weight in adapters[0].items():
        # Sums on CUDA may be taken in another order each time.
        torch.testing.assert_close(weight, adapters[1][name], atol=1e-3, rtol=1e-2)
