"""Environment of the tests: no hub, no network, no chance."""

import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings

# The same examples every time, and no limits that a busy machine would break. For a search among
# others: pytest tests/test_properties.py --hypothesis-profile=default --hypothesis-seed=random
settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("same")

# Before anything imports huggingface_hub, which reads both once. pytest-socket closes sockets.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests of converted models keep them in folders of their own.
os.environ.setdefault("INSTRUCTCLF_GGUF_CACHE", "0")
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="huggingface-")

pytest_plugins = ["tests.fixtures"]


def pytest_unconfigure():
    """Remove what was cached, such as converted models."""
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)
