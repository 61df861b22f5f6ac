"""Checks of a model's name, files and classes, before any of its weights or code is used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from instructclf.engine.models.gguf_files import split_source
from instructclf.exceptions import ModelLoadingError, RemoteCodeWarning, warn_caller

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""A folder with a tokenizer has one of these files."""
_REMOTE_MODULES = "transformers_modules."
"""The package that transformers gives to modules which come with models."""


def check_source(source: str) -> None:
    """Report what is wrong with a folder, before transformers looks for its name on the hub.

    Raises
    ------
    ModelLoadingError
        If it is a folder without a model or a tokenizer, a file other than GGUF, or a path that
        does not exist.
    """
    folder = Path(source).expanduser()
    if split_source(source).file is not None:
        return
    if folder.is_file():
        msg = f"The 'model' {source!r} is a file. Give the folder that holds it, with config.json."
        raise ModelLoadingError(msg)
    if not folder.is_dir():
        if source.startswith((".", "/", "~")):  # not a hub id
            msg = f"The model folder {source!r} does not exist: it is {str(folder.absolute())!r}."
            raise ModelLoadingError(msg)
        return
    if not (folder / "config.json").is_file():
        msg = f"The model folder {source!r} has no config.json. Save a model there first."
        raise ModelLoadingError(msg)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        msg = (
            f"The model folder {source!r} has no tokenizer: none of {', '.join(TOKENIZER_FILES)}. "
            "Save the tokenizer there with tokenizer.save_pretrained(folder)."
        )
        raise ModelLoadingError(msg)


def check_safetensors(source: str) -> None:
    """Raise ``ModelLoadingError`` if all weights of a folder are pickles, which can run code."""
    folder = Path(source).expanduser()
    pickles = sorted(path.name for path in folder.glob("*.bin") if folder.is_dir())
    if pickles and not any(folder.glob("*.safetensors")):
        msg = (
            f"The weights in {source!r} are a pickle ({pickles[0]}), which can run code while it "
            "is read. Only safetensors is read. If you trust the author, convert the model once: "
            "AutoModelForCausalLM.from_pretrained(folder, use_safetensors=False)"
            ".save_pretrained(folder)."
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
    """Say whether these objects are a causal language model and a tokenizer, judged by members."""
    match objects:
        case (model, tokenizer):
            has_output = callable(getattr(model, "get_output_embeddings", None))
            return has_output and hasattr(tokenizer, "all_special_tokens")
        case _:
            return False


def check_complete(missing: Iterable[str], source: str) -> None:
    """Raise ``ModelLoadingError`` if weights are missing: transformers draws them at random."""
    names = sorted(missing)
    if names:
        msg = (
            f"The model {source!r} lacks {len(names)} of its weights, such as {names[0]!r}. Save "
            "it again, or correct its config.json."
        )
        raise ModelLoadingError(msg)
