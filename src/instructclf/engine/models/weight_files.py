"""Folder of a model → an error, if its weights are missing, incomplete or pickles.

The checks read the beginnings of files. They find what a download, a copy or Git has left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from instructclf.engine.models.names import list_parts
from instructclf.exceptions import ModelLoadingError

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_POINTER = b"version https://git-lfs.github.com/spec/"
_OF_THE_TRAINER = {"training_args.bin", "optimizer.bin", "scheduler.bin", "scaler.bin"}
"""Files that a training run leaves next to the weights."""
_READ = {".safetensors", ".json", ".model", ".jinja", ".txt", ".tiktoken"}
"""The endings of the files that are read of a folder."""
_TEMPLATES = "additional_chat_templates"
_OF_TOKENIZER = re.compile("token|template|vocab|merges|spiece")


def list_read_files(path: Path) -> list[Path]:
    """Return the files that are read of a model: its GGUF files and what lies next, or a folder.

    Of several GGUF files the path is that of the first. Other models in the folder do not count.
    """
    folder = path.parent if path.is_file() else path
    found = [*folder.iterdir(), *(folder / _TEMPLATES).glob("*")]
    read = [file for file in found if file.suffix in _READ and file.is_file()]
    if folder == path:
        return sorted(read)
    parts = [file for name in list_parts(path.name) if (file := folder / name).is_file()]
    return parts + sorted(file for file in read if file.suffix != ".safetensors")


def list_converted_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the GGUF files of a model by numbers, as their names do not count.

    Those next to them that change the tokenizer are there by their names.
    """
    folder, read = paths[0].parent, list_read_files(paths[0])
    names = {file.relative_to(folder).as_posix(): file for file in read if file.suffix in _READ}
    others = {name: file for name, file in names.items() if _OF_TOKENIZER.search(name)}
    return {**{str(number): path for number, path in enumerate(paths)}, **others}


def holds_weights(folder: Path) -> bool:
    """Say whether a folder holds the weights of a whole model, in one file or several."""
    return any(folder.glob("model*.safetensors"))


def check_weights(folder: Path) -> None:
    """Raise ``ModelLoadingError`` unless all weights of a model are there, in safetensors.

    Pickles can run code while they are read.
    """
    for path in list_read_files(folder):
        check_not_pointer(path)
    index = folder / _INDEX
    if (folder / _WHOLE).is_file():
        names = {_WHOLE}
    elif index.is_file():
        names = _read_index(index)
    else:
        raise ModelLoadingError(_describe_absence(folder))
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        msg = (
            f"The model folder {str(folder)!r} is incomplete: it lacks {len(missing)} of its "
            f"{len(names)} files of weights, such as {missing[0]!r}. Download or copy it again."
        )
        raise ModelLoadingError(msg)
    for name in sorted(names):
        _check_length(folder / name)


def check_not_pointer(path: Path) -> None:
    """Raise ``ModelLoadingError`` if Git has put a pointer where a large file belongs."""
    with path.open("rb") as file:
        is_pointer = file.read(len(_POINTER)) == _POINTER
    if is_pointer:
        msg = (
            f"{str(path)!r} is a pointer of Git LFS, not the file itself, which was not "
            "downloaded. Run `git lfs pull` in its folder, or `hf download owner/name`."
        )
        raise ModelLoadingError(msg)


def _check_length(path: Path) -> None:
    """Raise ``ModelLoadingError`` if a safetensors file is shorter than its header says."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            n_header = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(n_header) if n_header <= size else "")
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        length = 8 + n_header + max((entry["data_offsets"][1] for entry in tensors), default=0)
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        msg = (
            f"The file of weights {str(path)!r} is damaged or incomplete: its header cannot be "
            f"read, and it has {size:,} bytes. Download or copy it again."
        )
        raise ModelLoadingError(msg) from error
    if size < length:
        msg = (
            f"The file of weights {str(path)!r} is incomplete: it has {size:,} of {length:,} "
            "bytes. Download or copy it again."
        )
        raise ModelLoadingError(msg)


def _read_index(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        msg = (
            f"{str(index)!r}, which lists the files of weights, is damaged or incomplete: {error}. "
            "Download or copy it again."
        )
        raise ModelLoadingError(msg) from error


def describe_gguf_files(folder: Path) -> str:
    """Say how to name the GGUF files of a folder, if it holds any."""
    paths = sorted(str(path) for path in folder.glob("*.[gG][gG][uU][fF]"))
    return f" It holds a GGUF file: give its path, {paths[0]!r}." if paths else ""


def _describe_absence(folder: Path) -> str:
    """Say what a folder without weights in safetensors holds instead, and what to do."""
    pickles = sorted({path.name for path in folder.glob("*.bin")} - _OF_THE_TRAINER)
    if pickles:
        return (
            f"The weights in {str(folder)!r} are a pickle ({pickles[0]}), which can run code while "
            "it is read. Only safetensors is read. If you trust the author, convert the model "
            "once: AutoModelForCausalLM.from_pretrained(folder, use_safetensors=False)"
            ".save_pretrained(folder)."
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    found = f" It holds {', '.join(others[:3])}, which no index names." if others else ""
    found += describe_gguf_files(folder)
    return (
        f"The model folder {str(folder)!r} has no weights: there is no file named {_WHOLE} or "
        f"{_INDEX}.{found} Download or copy the model again, or save it there with "
        "model.save_pretrained(folder)."
    )
