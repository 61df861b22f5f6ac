"""Attention on the device is a softmax written out, in every precision and at any width."""

from __future__ import annotations

import pytest
import torch

from tests.engine.scoring.test_attention import TOLERANCES, check_all_kinds
from tests.engine.tuning.attention.test_joint import (
    HEADS,
    check_full_precision,
    check_half_precision,
)
from tests.gpu.devices import DEVICE, ON_DEVICE, ONLY_CUDA

pytestmark = ON_DEVICE


@pytest.mark.parametrize("width", [8, 12, 100, 264])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_attention_and_normaliser_are_those_of_a_softmax_written_out(dtype, width):
    check_all_kinds(dtype, DEVICE, width)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("kind", ["causal", "boolean", "additive"])
@pytest.mark.parametrize("is_windowed", [False, True], ids=["whole prefix", "windows"])
def test_gradients_of_a_shared_prefix_are_those_of_one_softmax(heads, kind, is_windowed):
    check_full_precision(DEVICE, heads, kind, is_windowed=is_windowed)


@ONLY_CUDA
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("is_masked", [True, False], ids=["masked", "causal"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_a_shared_prefix_are_about_as_close_as_those_of_one_fused_kernel(
    dtype, heads, is_masked
):
    check_half_precision(DEVICE, dtype, heads, is_masked=is_masked)
