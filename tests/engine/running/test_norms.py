"""Norms that torch computes in one kernel are found by what they compute."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.running import norms
from tests.fixtures import make_model


@pytest.mark.parametrize(
    ("architecture", "is_found"),
    [("llama", True), ("qwen3", True), ("mistral", True), ("gemma", False)],
)
def test_norms_are_found_unless_they_scale_by_something_else(architecture, is_found, monkeypatch):
    """Those of Gemma scale by one plus the weight."""
    monkeypatch.setattr(norms, "_is_plain", {})
    norm = make_model(architecture).model.norm
    assert norms._computes_what_torch_computes(norm) is is_found


def test_a_norm_that_torch_computes_gives_the_same_numbers():
    norm = make_model().model.norm
    norm.weight.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
    states = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(norms._normalise(norm, states), norm(states))


def test_norms_on_a_cpu_stay_as_they_are():
    model = make_model()
    norms.fuse_norms(model)
    assert not any("forward" in vars(module) for module in model.modules())
