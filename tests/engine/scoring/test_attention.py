"""Attention with its log normaliser equals the sums written out."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.scoring.attention import attend_with_normaliser

SCALING = 0.3
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def make_inputs(dtype, device, *, length=37, n_keys=37, width=16):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, length, width), (3, 4, n_keys, width), (3, 4, n_keys, width)]
    return [torch.randn(s, generator=generator).to(device=device, dtype=dtype) for s in shapes]


def attend_slowly(query, key, value, bias):
    scores = SCALING * query.double() @ key.double().transpose(-1, -2) + bias
    return scores.softmax(dim=-1) @ value.double(), scores.logsumexp(dim=-1)


def check(inputs, bias, mask, *, is_causal):
    with torch.inference_mode():
        output, normaliser = attend_with_normaliser(*inputs, mask, SCALING, is_causal=is_causal)
        expected, expected_normaliser = attend_slowly(*inputs, bias)
    tolerance = TOLERANCES[inputs[0].dtype]
    torch.testing.assert_close(output.double(), expected, atol=tolerance, rtol=tolerance)
    assert normaliser.dtype in {torch.float32, torch.float64}
    torch.testing.assert_close(
        normaliser.double(), expected_normaliser, atol=tolerance, rtol=tolerance
    )


def check_all_kinds(dtype, device):
    """Attend to everything, to earlier keys only, and to what a mask leaves."""
    check(make_inputs(dtype, device, n_keys=70), 0.0, None, is_causal=False)
    inputs = make_inputs(dtype, device)
    hidden = torch.ones(37, 37, dtype=torch.bool, device=device).triu(1)
    causal = torch.zeros(37, 37, device=device).masked_fill(hidden, -torch.inf)
    check(inputs, causal, None, is_causal=True)
    hidden = (torch.rand(3, 1, 37, 37, generator=torch.Generator().manual_seed(1)) < 0.5).to(device)
    hidden.diagonal(dim1=-2, dim2=-1).fill_(False)  # each sees itself
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
    mask = mask.masked_fill(hidden, torch.finfo(dtype).min)
    check(inputs, mask.double(), mask, is_causal=False)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_attention_and_normaliser_are_those_of_a_softmax_written_out(dtype):
    check_all_kinds(dtype, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_on_cuda_too(dtype):
    check_all_kinds(dtype, "cuda")
