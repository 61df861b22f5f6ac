"""Where a model comes from → what is wrong with it, before anything of it is read or run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from instructclf.engine.models.gguf_files import split_source
from instructclf.exceptions import ModelLoadingError, RemoteCodeWarning, warn_caller

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Files of which a folder with a tokenizer has one."""
_REMOTE_MODULES = "transformers_modules."
"""Where transformers puts the modules that come with models."""


def check_source(source: str) -> None:
    """Say what is wrong with a folder before transformers goes looking for it on the hub.

    Parameters
    ----------
    source : str
        A folder, a file or a hub id.

    Raises
    ------
    ModelLoadingError
        If it is a folder without a model or a tokenizer, a file that is none, or a path to nothing.
    """
    folder = Path(source).expanduser()
    if split_source(source).file is not None:
        return
    if folder.is_file():
        msg = f"The 'model' {source!r} is a file. Give the folder that holds it, with config.json."
        raise ModelLoadingError(msg)
    if not folder.is_dir():
        if source.startswith((".", "/", "~")):  # no hub id does
            msg = f"There is no model folder {source!r}: {str(folder.absolute())!r} does not exist."
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
    """Refuse a folder whose weights are a pickle: reading one runs whatever is in it.

    Parameters
    ----------
    source : str
        A folder or a hub id.

    Raises
    ------
    ModelLoadingError
        If it has no other weights.
    """
    folder = Path(source).expanduser()
    pickles = sorted(path.name for path in folder.glob("*.bin") if folder.is_dir())
    if pickles and not any(folder.glob("*.safetensors")):
        msg = (
            f"The weights in {source!r} are a pickle ({pickles[0]}), which can run code when it is "
            "read, and only safetensors is read. If you trust its author, convert it once: "
            "AutoModelForCausalLM.from_pretrained(folder, use_safetensors=False)"
            ".save_pretrained(folder)."
        )
        raise ModelLoadingError(msg)


def warn_of_remote_code(*objects: Any) -> None:
    """Say which objects are of a class that transformers downloaded with ``trust_remote_code``.

    Parameters
    ----------
    *objects : object
        A model, a tokenizer.

    Warns
    -----
    RemoteCodeWarning
        If there are any.
    """
    strangers = [
        type(own).__name__
        for own in objects
        if any(kind.__module__.startswith(_REMOTE_MODULES) for kind in type(own).__mro__)
    ]
    if strangers:
        warn_caller(
            f"{' and '.join(strangers)} run code that came with the model, not with transformers. "
            "It can do whatever you can. Go on only if you have read it, and pin the revision.",
            RemoteCodeWarning,
        )


def is_model_and_tokenizer(*objects: Any) -> bool:
    """Say whether these are a causal language model and a tokenizer.

    Parameters
    ----------
    *objects : object
        Whatever was given as a model.

    Returns
    -------
    bool
        Whether they have what such a pair has.
    """
    match objects:
        case (model, tokenizer):
            has_output = callable(getattr(model, "get_output_embeddings", None))
            return has_output and hasattr(tokenizer, "all_special_tokens")
        case _:
            return False


def check_complete(missing: Iterable[str], source: str) -> None:
    """Refuse weights that are not there: transformers would draw them at random.

    Parameters
    ----------
    missing : iterable of str
        Names of weights that the model has and its files have not.
    source : str
        What the model is called.

    Raises
    ------
    ModelLoadingError
        If there are any.
    """
    names = sorted(missing)
    if names:
        msg = (
            f"The model {source!r} lacks {len(names)} of its weights, such as {names[0]!r}. Save "
            "it again, or correct its config.json."
        )
        raise ModelLoadingError(msg)
