"""Every test begins and ends without base models in memory, on every device."""

from __future__ import annotations

import gc

import pytest
import torch

from instructclf.engine.models.registry import clear_base_models


@pytest.fixture(autouse=True)
def _no_models():
    _forget()
    yield
    _forget()


def _forget():
    clear_base_models()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
