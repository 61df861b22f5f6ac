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
else:
    collect_ignore_glob = ["*.py"]


@pytest.fixture
def machine():
    """Two simulated GPUs of 80 GiB, for a process that has loaded and tried nothing."""
    from instructclf.engine.models.registry import clear_base_models
    from instructclf.engine.scoring import strategies
    from tests.simulated_device.simulation import simulated_gpus

    clear_base_models()
    strategies._found.clear()
    with simulated_gpus(2) as simulated:
        yield simulated
        clear_base_models()
    assert not simulated.failure, f"An index out of range: {simulated.failure}"
