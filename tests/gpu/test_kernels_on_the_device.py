"""Attention on the device is a softmax written out, in every precision and at any width."""

from __future__ import annotations

import pytest

from tests.engine.scoring.test_attention import TOLERANCES, check_all_kinds
from tests.gpu.devices import DEVICE, ON_DEVICE

pytestmark = ON_DEVICE


@pytest.mark.parametrize("width", [8, 12, 100, 264])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_attention_and_normaliser_are_those_of_a_softmax_written_out(dtype, width):
    check_all_kinds(dtype, DEVICE, width)
