"""Products equal those of torch, and gradients reach what they reach there."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from instructclf.engine.running import arithmetic
from instructclf.engine.running.arithmetic import precise_product, product

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float64: 1e-12}
GENERATOR = torch.Generator().manual_seed(0)


def make(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64).to(dtype)


@pytest.fixture(params=[True, False], ids=["with bfloat16 instructions", "without"])
def _processor(request, monkeypatch):
    monkeypatch.setattr(arithmetic, "has_bfloat16_instructions", lambda: request.param)


@pytest.mark.usefixtures("_processor")
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("rows_dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("weight_dtype", TOLERANCES, ids=str)
def test_a_product_is_that_of_torch_in_the_precision_of_the_rows(
    rows_dtype, weight_dtype, has_bias
):
    if torch.float64 in {rows_dtype, weight_dtype} and rows_dtype != weight_dtype:
        pytest.skip("Only models in double precision have weights of it.")
    rows, weight = make(3, 5, 16, dtype=rows_dtype), make(8, 16, dtype=weight_dtype)
    bias = make(8, dtype=weight_dtype) if has_bias else None
    expected = linear(rows.double(), weight.double(), None if bias is None else bias.double())
    tolerance = max(TOLERANCES[rows_dtype], TOLERANCES[weight_dtype])
    for context in (torch.inference_mode, torch.enable_grad):
        with context():
            found = product(rows, weight, bias)
        assert found.dtype == rows_dtype
        torch.testing.assert_close(found.double(), expected, atol=tolerance * 8, rtol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_a_precise_product_converts_the_weight_and_not_the_rows(dtype):
    kind = torch.promote_types(dtype, torch.float32)
    rows, weight, bias = make(4, 16, dtype=kind), make(8, 16, dtype=dtype), make(8, dtype=dtype)
    expected = linear(rows.double(), weight.double(), bias.double())
    found = precise_product(rows, weight, bias)
    assert found.dtype == kind
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("trains_weight", [True, False])
def test_gradients_are_those_of_torch(dtype, trains_weight):
    weight, bias = make(8, 16, dtype=dtype), make(8, dtype=dtype)
    found = gradients(product, weight, bias, trains_weight=trains_weight)
    expected = gradients(linear, weight.float(), bias.float(), trains_weight=trains_weight)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), other, atol=5e-2 * other.abs().max().item(), rtol=0)


def gradients(function, weight, bias, *, trains_weight):
    rows = torch.linspace(-1, 1, 5 * 16).view(5, 16).requires_grad_()
    own = weight.clone().requires_grad_(trains_weight)
    function(rows, own, bias).square().sum().backward()
    return [rows.grad, own.grad] if trains_weight else [rows.grad]
