"""Tokenizers, models of a few thousand random weights, and classifiers on them."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.prompts import TEMPLATES, write_instruction

START, END, PAD = "<s>", "</s>", "<pad>"
CONTEXT = 2048

ARCHITECTURES = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 16},
    "gemma": {"head_dim": 8},
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": CONTEXT},
    "gpt_neox": {},
    "olmo": {},
}
"""The families that the engine is tested on, and the entries that distinguish each."""


def make_tokenizer(*, adds_start: bool = True, end: str | None = END) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on a few prompts, so that merges cross the end of a prompt."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[START, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    instruction = write_instruction(None, ["negative", "positive"])
    answers = ["negative", "positive", "very positive", "Verdict: positive"]
    sentences = [TEMPLATES["alpaca"].render(instruction, "I like it", response=a) for a in answers]
    tokenizer.train_from_iterator(sentences * 3, trainer)
    if adds_start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=end, pad_token=PAD
    )


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_chat_tokenizer(chat_template: str = CHATML) -> PreTrainedTokenizerFast:
    """Make a tokenizer for conversations, whose turns are marked by special tokens."""
    tokenizer = make_tokenizer(adds_start=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = chat_template
    return tokenizer


def make_model(architecture: str = "llama", *, dtype: torch.dtype = torch.float32, **changes):
    """Make a two-layer causal language model with random weights that are the same every time."""
    options = {
        "vocab_size": 600,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.2,  # large, so that log-likelihoods differ
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        **ARCHITECTURES.get(architecture, {}),
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(architecture, **options)
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that puts a start token before a text."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def model():
    """A random Llama that no test may change."""
    return make_model()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, model, tokenizer):
    """The random Llama and its tokenizer, saved as users save their models."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


# Classifiers

TEXTS = [f"good thing {i}" for i in range(8)] + [f"bad thing {i}" for i in range(8)]
LABELS = ["positive"] * 8 + ["negative"] * 8
"""Rows that a model of random weights learns to distinguish in a few epochs."""

_PROMPTING = {"n_shots": 4, "random_state": 0}
_TUNING = {"learning_rate": 0.01, "max_epochs": 3, "batch_size": 2, "adapter__rank": 4}


@pytest.fixture
def make_prompting(model_folder):
    """Return a function that makes a prompting classifier on the random Llama.

    It takes the names that ``set_params`` takes: ``make_prompting(model_options__max_length=64)``.
    """

    def make(**changes):
        return PromptClassifier(model_folder).set_params(**_PROMPTING).set_params(**changes)

    return make


@pytest.fixture
def make_tuning(model_folder):
    """Return a function that makes an instruction-tuned classifier on the random Llama.

    It takes the names that ``set_params`` takes: ``make_tuning(training_options__tol=0)``.
    """

    def make(**changes):
        classifier = InstructionTunedClassifier(model_folder)
        return classifier.set_params(**_PROMPTING, **_TUNING).set_params(**changes)

    return make


@pytest.fixture(params=["prompting", "tuning"])
def make_classifier(request):
    """Return ``make_prompting``, then ``make_tuning``."""
    return request.getfixturevalue(f"make_{request.param}")


@pytest.fixture
def n_loads(caplog):
    """Return a function that counts the loads of models since the test began."""
    logger = "instructclf.engine.models.loading"
    caplog.set_level(logging.INFO, logger=logger)
    return lambda: sum(record.name == logger for record in caplog.records)


@pytest.fixture
def fresh_folder(model_folder, tmp_path):
    """Return a copy of the model folder from which nothing has been loaded."""
    return str(shutil.copytree(model_folder, tmp_path / "copy"))


@pytest.fixture
def pyplot():
    """Draw into memory, and close all figures afterwards, since figures outlive tests."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")
