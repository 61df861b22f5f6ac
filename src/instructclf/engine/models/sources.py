"""Checks of a model's name, files and classes, before any of its weights or code is used."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from instructclf.engine.models.names import check_exists, split_source
from instructclf.engine.models.weight_files import describe_gguf_files
from instructclf.exceptions import ModelLoadingError, RemoteCodeWarning, warn_caller

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""A folder with a tokenizer has one of these files."""
_REMOTE_MODULES = "transformers_modules."
"""The package that transformers gives to modules which come with models."""
_OTHER_TASK = re.compile(
    r"For(\w*Classification|QuestionAnswering|MultipleChoice|Reward)|RewardModel"
)
_HARMLESS = re.compile(
    r"(^|\.)[^.]*(vision|visual|image|audio|speech|video|modal|projector|talker|token2wav)[^.]*\."
    r"|(^|\.)(connector|resampler|perceiver|vpm|apm|vit|mlp1|v_head|[^.]*(mtp|nextn)[^.]*)\."
    r"|(inv_freq|position_ids|masked_bias|attn\.bias|attention\.bias|_cached|\.version|_float_tensor"
    r"|embed_positions\.weights|num_batches_tracked|image_newline)$"
)
"""Weights of other senses, heads next to the output layer, and buffers that are computed anew."""
_LAYER = re.compile(r"\blayers\.(\d+)\.")
_N_NAMED = 3


def check_source(source: str) -> None:
    """Report what is wrong with a folder, before transformers looks for its name on the hub.

    Raises
    ------
    ModelLoadingError
        If it is a folder without a model or a tokenizer, a file other than GGUF, or a path that
        does not exist.
    """
    parts = split_source(source)
    check_exists(source, parts)
    folder = Path(parts.location)
    if parts.file is not None or not folder.exists():
        return
    if folder.is_file():
        msg = f"The 'model' {source!r} is a file. Give the folder that holds it, with config.json."
        raise ModelLoadingError(msg)
    if not (folder / "config.json").is_file():
        remedy = describe_gguf_files(folder) or " Save a model there first."
        msg = f"The model folder {source!r} has no config.json.{remedy}"
        raise ModelLoadingError(msg)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        msg = (
            f"The model folder {source!r} has no tokenizer: none of {', '.join(TOKENIZER_FILES)}. "
            "Save the tokenizer there with tokenizer.save_pretrained(folder)."
        )
        raise ModelLoadingError(msg)


def check_architecture(config: Any, source: str, architectures: Iterable[str]) -> None:
    """Raise ``ModelLoadingError`` unless this is a language model: its output scores tokens."""
    names = list(architectures)
    other = next((name for name in names if _OTHER_TASK.search(name)), None)
    if any("ForMaskedLM" in name for name in names):
        kind = "an encoder that was trained to fill in masked words"
    elif other is not None:
        kind = f"a {other}, whose output layer does not score tokens"
    else:
        return
    msg = (
        f"The model {source!r} ({config.model_type}) is {kind}. Labels are scored as the "
        "answer to a prompt, which needs a decoder-only (causal) or encoder-decoder language model."
    )
    raise ModelLoadingError(msg)


def check_has_decoder(model: Any, name: str) -> None:
    """Raise ``ModelLoadingError`` unless a decoder of this model answers what its encoder reads."""
    forward = inspect.signature(type(model).forward).parameters
    takes_both = {"encoder_outputs", "decoder_input_ids"} <= set(forward)
    if not takes_both or model.get_output_embeddings() is None:
        msg = (
            f"The {name} is a part of an encoder-decoder model that cannot answer texts with "
            "texts: it lacks the encoder, the decoder or the output layer. Load the whole model "
            "with AutoModelForSeq2SeqLM."
        )
        raise ModelLoadingError(msg)


def warn_of_remote_code(*objects: Any) -> None:
    """Warn of objects whose class transformers has downloaded, as with ``trust_remote_code``.

    Warns
    -----
    RemoteCodeWarning
        If the class of an object, or a base of it, came with a model.
    """
    remote = [
        type(thing).__name__
        for thing in objects
        if any(kind.__module__.startswith(_REMOTE_MODULES) for kind in type(thing).__mro__)
    ]
    if remote:
        warn_caller(
            f"{' and '.join(remote)} run code that came with the model, not with transformers. "
            "It can do whatever you can do. Use it only if you have read it, and pin the revision.",
            RemoteCodeWarning,
        )


def is_model_and_tokenizer(*objects: Any) -> bool:
    """Say whether these objects are a language model and a tokenizer, judged by members."""
    match objects:
        case (model, tokenizer):
            has_output = callable(getattr(model, "get_output_embeddings", None))
            return has_output and hasattr(tokenizer, "all_special_tokens")
        case _:
            return False


def check_all_fit(report: Mapping[str, Any], config: Any, source: str) -> None:
    """Raise ``ModelLoadingError`` if transformers has drawn or dropped weights while loading.

    ``report`` is its account of the names that files lack, that the model lacks, and whose shapes
    differ. Parts for other senses and for drafts of tokens may be dropped.
    """
    dropped = [name for name in report["unexpected_keys"] if not _may_be_dropped(name, config)]
    resized = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    for names, problem in (
        (report["missing_keys"], "lacks {} of its weights"),
        (resized, "has {} weights of other shapes than its config.json says"),
        (dropped, "has {} weights that its architecture has no place for"),
    ):
        if names:
            examples = ", ".join(repr(name) for name in sorted(names)[:_N_NAMED])
            msg = (
                f"The model {source!r} {problem.format(len(names))}, such as {examples}. Save it "
                "again, or correct its config.json."
            )
            raise ModelLoadingError(msg)


def _may_be_dropped(name: str, config: Any) -> bool:
    text = config.get_text_config()
    if _HARMLESS.search(name) or getattr(config, "quantization_config", None) is not None:
        return True
    layer = _LAYER.search(name)
    is_draft = layer is not None and int(layer[1]) >= (getattr(text, "num_hidden_layers", 0) or 0)
    return is_draft and bool(getattr(text, "num_nextn_predict_layers", 0))
