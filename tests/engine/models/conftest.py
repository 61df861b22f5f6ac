"""Where converted models are kept in these tests."""

from __future__ import annotations

import pytest
from huggingface_hub import constants


@pytest.fixture
def gguf_cache(tmp_path, monkeypatch):
    """Keep converted models, in a folder of this test, which is returned."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INSTRUCTCLF_GGUF_CACHE", "1")
    return tmp_path / "home" / "instructclf" / "gguf"
