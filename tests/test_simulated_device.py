"""The package runs on a simulated GPU: tests that need a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_tests_on_a_simulated_gpu_pass():
    pytest.importorskip(
        "torch._C._acc", reason="torch has backends in Python from 2.10 on", exc_type=ImportError
    )
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/simulated_device"],
        env={**inherited, "INSTRUCTCLF_SIMULATED_DEVICE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
