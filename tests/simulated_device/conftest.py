"""These tests run in a process of their own, which `tests/test_simulated_device.py` starts.

    INSTRUCTCLF_SIMULATED_DEVICE=1 python -m pytest tests/simulated_device

In another process they are not collected: the simulation registers a device with torch for good.
"""

from __future__ import annotations

import os

import pytest

collect_ignore_glob = []
if os.environ.get("INSTRUCTCLF_SIMULATED_DEVICE") == "1":
    import peft  # noqa: F401  (imports bitsandbytes, which takes a simulated device for a real one)

    from tests.simulated_device.simulation import fresh_machine
else:
    collect_ignore_glob = ["*.py"]


@pytest.fixture
def machine():
    """Two simulated GPUs of 80 GiB, for a process that has loaded and tried nothing."""
    with fresh_machine(2) as simulated:
        yield simulated
