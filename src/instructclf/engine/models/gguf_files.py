"""Name of a GGUF file → what transformers takes to load it, all weights unpacked.

GGUF is the format of llama.cpp: one file with weights, often in few bits, and the tokenizer. It
holds no code. Unpacked, its weights are shared and tuned like any others.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from instructclf.exceptions import MissingExtraError, ModelLoadingError
from instructclf.storage import is_repo_id

_ENDING = ".gguf"


class Source(NamedTuple):
    """Where a model is.

    Parameters
    ----------
    place : str
        A folder or hub id.
    file : str or None
        The GGUF file in it. ``None`` for safetensors.
    revision : str or None, default=None
        The branch, tag or commit on the hub. ``None`` for the main branch.
    """

    place: str
    file: str | None
    revision: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """What transformers is told beside the place."""
        said = {"gguf_file": self.file, "revision": self.revision}
        return {name: value for name, value in said.items() if value is not None}


def split_source(name: str) -> Source:
    """Return the folder or hub id, and the GGUF file or the revision that the name says.

    Parameters
    ----------
    name : str
        A folder, a hub id, or either of them with a slash and the name of a GGUF file after it; or
        a hub id with ``@`` and a revision.

    Returns
    -------
    Source
        The parts.

    Raises
    ------
    MissingExtraError
        If it is a GGUF file and the package that reads them is not installed.
    ModelLoadingError
        If its folder is here, and the file is not in it.
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
        msg = f"There is no file {path.name!r} in {str(path.parent)!r}. Give one that is there."
        raise ModelLoadingError(msg)
    if path.is_file():
        return Source(str(path.parent), path.name)
    place, _, file = name.rpartition("/")
    return Source(place, file)
