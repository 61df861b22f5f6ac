"""Environment of the tests: no hub, no network."""

import importlib.util
import os

# Before anything imports huggingface_hub, which reads it once. Sockets are closed by pytest-socket.
os.environ["HF_HUB_OFFLINE"] = "1"

pytest_plugins = [name for name in ("tests.fixtures",) if importlib.util.find_spec(name)]
