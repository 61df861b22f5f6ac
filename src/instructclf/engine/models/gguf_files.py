"""Name of a model → its folder or hub id, its GGUF file and its revision.

GGUF is the format of llama.cpp: one file with weights, often in few bits, and the tokenizer. It
holds no code. Its weights are unpacked while loading, and then shared and tuned like any others.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from instructclf.exceptions import MissingExtraError, ModelLoadingError
from instructclf.storage import is_repo_id

_ENDING = ".gguf"


class Source(NamedTuple):
    """The parts of a model's name.

    Parameters
    ----------
    location : str
        A folder or hub id.
    file : str or None
        The GGUF file in it. ``None`` for safetensors.
    revision : str or None, default=None
        The branch, tag or commit on the hub. ``None`` for the main branch.
    """

    location: str
    file: str | None
    revision: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """The arguments for ``from_pretrained``, in addition to the location."""
        options = {"gguf_file": self.file, "revision": self.revision}
        return {name: value for name, value in options.items() if value is not None}


def split_source(name: str) -> Source:
    """Split a model's name into its parts.

    The name is a folder or a hub id; either of them followed by a slash and the name of a GGUF
    file; or a hub id followed by ``@`` and a revision.

    Raises
    ------
    MissingExtraError
        If it names a GGUF file and the package that reads them is not installed.
    ModelLoadingError
        If the folder exists and the GGUF file does not.
    """
    if not name.lower().endswith(_ENDING):
        owner_and_name, _, revision = name.rpartition("@")
        is_pinned = is_repo_id(owner_and_name) and not Path(name).expanduser().exists()
        return Source(owner_and_name, None, revision) if is_pinned else Source(name, None)
    if find_spec("gguf") is None:
        msg = f'Reading {name!r} needs gguf. Install it with pip install "instructclf[gguf]".'
        raise MissingExtraError(msg)
    path = Path(name).expanduser()
    if path.parent.is_dir() and not path.is_file():
        msg = f"The folder {str(path.parent)!r} has no file {path.name!r}. Name one that it holds."
        raise ModelLoadingError(msg)
    if path.is_file():
        return Source(str(path.parent), path.name)
    location, _, file = name.rpartition("/")
    return Source(location, file)
