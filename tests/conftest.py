"""Environment of the tests: no hub, no network, no chance."""

import contextlib
import os
import shutil
import tempfile

# A machine that is rented for its GPU may have pytest alone, which the tests in tests/gpu need.
with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    # The same examples every time, and no limits that a busy machine would break. For a search
    # among others:
    # pytest tests/test_properties.py --hypothesis-profile=default --hypothesis-seed=random
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


def pytest_configure(config):
    """Close sockets, except those of worker processes, where pytest-socket is installed."""
    if hasattr(config.option, "disable_socket"):
        config.option.disable_socket = config.option.allow_unix_socket = True


def pytest_collection_modifyitems(items):
    """Begin with the longest test, so that other processes do not wait for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_simulated_device.py")


def pytest_unconfigure():
    """Remove what was cached, such as converted models."""
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)
