"""The two real models, and a tuned classifier on each, which the tests of this folder share."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from instructclf.engine.models import registry
from instructclf.exceptions import FailedRunWarning
from tests.real.models import FINDERS, RealModel, load_real_model
from tests.real.rows import LABELS, TEXTS


@pytest.fixture(scope="session")
def open_real_model():
    """Return a function that loads a real model by its name, at most once in a session."""
    opened: dict[str, RealModel] = {}
    keys: dict[str, Any] = {}
    with TemporaryDirectory(prefix="real-models-") as folder:

        def open_once(name: str) -> RealModel:
            if name not in opened:
                opened[name] = real = load_real_model(name, Path(folder) / name)
                (keys[name],) = (key for key, base in registry._known.items() if base is real.base)
            registry._known[keys[name]] = opened[name].base  # other tests may empty the registry
            return opened[name]

        yield open_once
        opened.clear()


def _fixture(*names: str):
    # A fixture of the session that had models as parameters would load them again whenever the
    # order of tests changes between them.
    @pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real) for name in names])
    def real(request, open_real_model) -> RealModel:
        return open_real_model(request.param)

    return real


real_model = _fixture(*FINDERS)
"""Each of the two models in turn. A test that uses it has the mark ``real``."""
smollm2 = _fixture("smollm2")
"""SmolLM2-135M-Instruct: a Llama with a chat template, and no limit below its context."""
gemma3 = _fixture("gemma3")
"""Gemma 3 270M, base: a window of 512 tokens in most layers, and no chat template."""


@pytest.fixture(scope="session")
def _tuned_before():
    return {}


@pytest.fixture
def tuned(real_model, _tuned_before):
    """A tuned classifier on the real model of the test, which no test may change."""
    if real_model.name not in _tuned_before:
        with warnings.catch_warnings():
            # Another seed, which is tried if a processor rounds unluckily, is as good.
            warnings.simplefilter("ignore", FailedRunWarning)
            _tuned_before[real_model.name] = real_model.tuning().fit(TEXTS, LABELS)
    return _tuned_before[real_model.name]


@pytest.fixture
def large_folder(tmp_path):
    """A folder for copies of models, which are removed after the test, also from memory."""
    yield tmp_path / "large"
    shutil.rmtree(tmp_path / "large", ignore_errors=True)
    registry.clear_base_models()
