"""Which device these tests run on.

They want CUDA and are skipped without it. ``INSTRUCTCLF_TEST_DEVICE=cpu python -m pytest -m gpu``
runs all that makes sense on a CPU, to see on any machine that the tests themselves work.
"""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("INSTRUCTCLF_TEST_DEVICE", "cuda")
IS_CUDA = DEVICE.startswith("cuda")

ON_DEVICE = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        IS_CUDA and not torch.cuda.is_available(), reason="torch sees no CUDA device here"
    ),
]
"""The marks of a module whose tests need the device."""

SHORT_RUNS = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
"""For runs of which nothing is asked but that they take place."""

ONLY_CUDA = pytest.mark.skipif(not IS_CUDA, reason="only CUDA tells how much memory tensors take")

TOLERANCES = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""How far log-likelihoods may lie from those of the CPU in float32. In half precision the models'
own rounding decides; a wrong mask or position moves them by several units."""
