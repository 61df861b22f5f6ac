"""Environment of the tests: no hub, no network."""

import os

# Before anything imports huggingface_hub, which reads it once. Sockets are closed by pytest-socket.
os.environ["HF_HUB_OFFLINE"] = "1"

pytest_plugins = ["tests.fixtures"]
