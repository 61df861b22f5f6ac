"""Tokenizers and models small enough to make in a test: a few thousand random weights."""

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
"""The families that the engine is held against, with what makes each of them itself."""


def make_tokenizer(*, adds_start: bool = True, end: str | None = END) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on a few prompts, so that merges reach across a prompt's end."""
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
    """Make a two-layer causal language model with random weights, the same ones every time."""
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
    """A random Llama, which nothing may change."""
    return make_model()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, model, tokenizer):
    """The random Llama and its tokenizer, saved as one would save a model of one's own."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


# Classifiers

TEXTS = [f"good thing {i}" for i in range(8)] + [f"bad thing {i}" for i in range(8)]
LABELS = ["positive"] * 8 + ["negative"] * 8
"""Rows that a model of random weights learns to tell apart in a few epochs."""

_PROMPTING = {"n_shots": 4, "random_state": 0}
_TUNING = {"learning_rate": 0.01, "max_epochs": 3, "train_batch_size": 2, "lora_rank": 4}


@pytest.fixture
def make_prompting(model_folder):
    """Return what makes a prompting classifier on the random Llama."""
    return lambda **changes: PromptClassifier(model_folder, **(_PROMPTING | changes))


@pytest.fixture
def make_tuning(model_folder):
    """Return what makes an instruction-tuned classifier on the random Llama."""
    options = _PROMPTING | _TUNING
    return lambda **changes: InstructionTunedClassifier(model_folder, **(options | changes))


@pytest.fixture(params=["prompting", "tuning"])
def make_classifier(request):
    """Return what makes a classifier of the one kind, then of the other."""
    return request.getfixturevalue(f"make_{request.param}")


@pytest.fixture
def n_loads(caplog):
    """Return a function that counts loads since the test began."""
    caplog.set_level(logging.INFO, logger="instructclf.engine.models.loading")
    return lambda: sum(
        record.name == "instructclf.engine.models.loading" for record in caplog.records
    )


@pytest.fixture
def fresh_folder(model_folder, tmp_path):
    """Return a fresh copy of the model, which nobody has loaded."""
    return str(shutil.copytree(model_folder, tmp_path / "copy"))


@pytest.fixture
def pyplot():
    """Draw into memory, and close what a test drew: figures outlive tests, in whichever order."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")
