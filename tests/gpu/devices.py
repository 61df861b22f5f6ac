"""The device that these tests run on.

They need CUDA and are skipped without it. ``INSTRUCTCLF_TEST_DEVICE=cpu python -m pytest -m gpu``
runs those that make sense on a CPU, which checks the tests themselves on any machine.
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
"""For runs that are too short to learn anything."""

ONLY_CUDA = pytest.mark.skipif(not IS_CUDA, reason="only CUDA counts the memory of tensors")

TOLERANCES = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""The largest difference of log-likelihoods from those of the CPU in float32. In half precision the
rounding of the model decides; a wrong mask or position changes them by several units."""
