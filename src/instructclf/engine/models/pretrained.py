"""Parts of a model's name → its configuration, model and tokenizer, which transformers loads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from instructclf.engine.models.names import A_NAME, Source, split_source
from instructclf.engine.models.sources import check_all_fit, check_architecture
from instructclf.exceptions import ModelLoadingError

_LONGEST_TEXT = 300
_PROBES = ["", " a", "don't 12,345\n\n  \tof", "<s> Naïve </s> 日本語 🙂"]
_TOKENIZER, _TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


def load_config(source: str, parts: Source) -> Any:
    """Load the configuration of the model that ``source`` names from where its parts say."""
    from transformers import AutoConfig

    with _explained(source):
        config: Any = AutoConfig.from_pretrained(
            parts.location, trust_remote_code=False, **parts.options
        )
    check_architecture(config, source, config.architectures or [])
    if config.is_encoder_decoder:
        _check_encoder_decoder(config, source, parts)
    return config


def _check_encoder_decoder(config: Any, source: str, parts: Source) -> None:
    from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    if parts.file is not None:
        msg = (
            f"The GGUF file {source!r} holds an encoder-decoder model ({config.model_type}). These "
            "are read from safetensors only: give the folder or hub id of the original model."
        )
        raise ModelLoadingError(msg)
    if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        msg = (
            f"The model {source!r} ({config.model_type}) is an encoder-decoder that transformers "
            "does not load with AutoModelForSeq2SeqLM, so it does not answer texts with texts. Use "
            "one that does, such as T5 or BART, or a decoder-only model."
        )
        raise ModelLoadingError(msg)


def load_model(
    source: str, parts: Source, dtype: torch.dtype, options: dict[str, Any] | None = None
) -> Any:
    """Load the model that ``source`` names from where its parts say. No bar is drawn.

    Raises
    ------
    ModelLoadingError
        If transformers cannot load it, or not all of its weights.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = load_config(source, parts)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with _explained(source), without_bar():
        loaded: Any = kind.from_pretrained(
            parts.location,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them: see check_all_fit
            **parts.options,
            **(_unpacked() if parts.file is not None and not options else {}),
            **(options or {}),
        )
    model, found = loaded
    check_all_fit(found, config, source)
    return model


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn the errors of transformers into one that names the model."""
    try:
        yield
    except ModelLoadingError:
        raise
    except Exception as error:  # readers of damaged files raise anything
        msg = (
            f"The model {source!r} could not be loaded: it must be {A_NAME}. transformers said: "
            f"{_shortened(error)}"
        )
        raise ModelLoadingError(msg) from error


def load_tokenizer(source: str) -> Any:
    """Load the tokenizer of the model that ``source`` names."""
    from transformers import AutoTokenizer

    parts = split_source(source)
    try:
        return AutoTokenizer.from_pretrained(
            parts.location, trust_remote_code=False, **parts.options
        )
    except Exception as error:  # readers of damaged files raise anything
        said = _shortened(error)
        msg = f"The tokenizer of {source!r} could not be loaded. transformers said: {said}"
        raise ModelLoadingError(msg) from error


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer, so that `read_tokenizer` returns one that encodes equally.

    Raises
    ------
    OSError
        If it does not.
    """
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    tokenizer.backend_tokenizer.save(str(folder / _TOKENIZER), pretty=False)  # faster to read
    path = folder / _TOKENIZER_CONFIG
    saved = json.loads(path.read_text(encoding="utf-8"))
    # Tokens that only this kind of tokenizer names are saved by the alphabet.
    ordered = {name: saved[name] for name in tokenizer.special_tokens_map if name in saved}
    config = ordered | saved | {"padding_side": tokenizer.padding_side}
    path.write_text(json.dumps(config), encoding="utf-8")
    if _describe_tokenizer(read_tokenizer(folder)) != _describe_tokenizer(tokenizer):
        msg = f"The {type(tokenizer).__name__} would encode otherwise after saving."
        raise OSError(msg)


def _describe_tokenizer(tokenizer: Any) -> list[Any]:
    return [len(tokenizer), tokenizer.all_special_tokens, tokenizer(_PROBES)["input_ids"]]


def read_tokenizer(folder: Path) -> Any:
    """Read what `write_tokenizer` has written, in the class that takes all of it from the file.

    Other classes take the vocabulary alone, and split text as they like. ``from_pretrained`` parses
    the file once more, which doubles time and memory.
    """
    from transformers import PreTrainedTokenizerFast

    config = json.loads((folder / _TOKENIZER_CONFIG).read_text(encoding="utf-8"))
    template = config.get("chat_template")
    if isinstance(template, list):
        config["chat_template"] = {one["name"]: one["template"] for one in template}
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / _TOKENIZER), **config)


def _shortened(error: Exception) -> str:
    """Return the text of an error on one line. Some list all that there is."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} …"


def quantised(dtype: torch.dtype) -> dict[str, Any]:
    """Return arguments that make transformers quantise weights as they arrive on their device.

    NF4 with quantised scales. Source: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized
    LLMs" (NeurIPS 2023), sections 3 and 4.
    """
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config}


def _unpacked() -> dict[str, Any]:
    """Return arguments that make transformers unpack all weights of a GGUF file."""
    import transformers

    # Releases before 5.23 lack this class, and always unpack.
    make: Any = getattr(transformers, "GgufConfig", None)
    return {} if make is None else {"quantization_config": make(dequantize=True)}


@contextmanager
def without_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar for files of weights.

    Its public switch is also that of the hub's client, and forgets what a user has set there.
    """
    from transformers.utils import logging

    with replaced(logging, "_tqdm_active", lambda _: False):
        yield


@contextmanager
def replaced(module: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Let a name of a module stand for what is made of its value, inside the block.

    A module without this name stays as it is.
    """
    before = getattr(module, name, None)
    if before is None:
        yield
        return
    setattr(module, name, make(before))
    try:
        yield
    finally:
        setattr(module, name, before)
