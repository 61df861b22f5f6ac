"""Name of a model → its path or hub id, its GGUF file and its revision.

What exists on this machine is never looked up on the hub, nor is a name that looks like a file.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from instructclf.exceptions import MissingExtraError, ModelLoadingError
from instructclf.inputs.paths import expand
from instructclf.storage import is_repo_id

_GGUF = ".gguf"
_PART = re.compile(r"(.+-)(\d{5})(-of-(?!00000)(\d{5})\.gguf)", re.IGNORECASE)
A_NAME = (
    "'bundled', a folder with a decoder-only or encoder-decoder language model in safetensors, or "
    "the id of one on the hub"
)
"""What a name can be, in error messages."""


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

    @property
    def may_be_on_hub(self) -> bool:
        """Whether the location has the form of a hub id, and nothing here has this name."""
        # The hub still has a few repositories without an owner, such as gpt2.
        is_id = is_repo_id(self.location) or is_repo_id(f"owner/{self.location}")
        return is_id and find_path(self.location) is None


def find_path(name: str) -> Path | None:
    """Return the path of a file or folder of this name on this machine, if there is one.

    ``~`` is the home folder.
    """
    try:
        path = expand(name)
        return path if path.exists() else None
    except (OSError, ValueError):  # too long, or with a null character
        return None


def split_source(name: str) -> Source:
    """Split a model's name into its parts.

    The name is a folder or a hub id; either of them followed by a slash and the name of a GGUF
    file; or a hub id followed by ``@`` and a revision.

    Raises
    ------
    MissingExtraError
        If it names a GGUF file and the package that reads them is not installed.
    ModelLoadingError
        If it names a GGUF file that does not exist and cannot be on the hub.
    """
    path = find_path(name)
    if not name.lower().endswith(_GGUF) or (path is not None and path.is_dir()):
        return split_revision(name) if path is None else Source(str(path), None)
    if find_spec("gguf") is None:
        msg = f'Reading {name!r} needs gguf. Install it with pip install "instructclf[gguf]".'
        raise MissingExtraError(msg)
    if path is not None:
        return Source(str(path.parent), path.name)
    location, _, file = name.rpartition("/")
    repository = split_revision(location)
    folder = Path(name).parent
    if find_path(str(folder)) is not None:
        msg = f"The folder {str(folder)!r} has no file {Path(name).name!r}. Name one that it holds."
        raise ModelLoadingError(msg)
    if not is_repo_id(repository.location):
        absolute = str(expand(name).absolute())
        msg = (
            f"There is no file {name!r}: it is {absolute!r}. Give the path of a GGUF file, or the "
            "hub id of its repository, a slash and its name."
        )
        raise ModelLoadingError(msg)
    return repository._replace(file=file)


def list_parts(file: str) -> list[str]:
    """Return the names of the files that hold the model of a GGUF file, which is the first of them.

    Raises
    ------
    ModelLoadingError
        If it is a later one.
    """
    part = _PART.fullmatch(file)
    if part is None:
        return [file]
    names = [f"{part[1]}{number:05d}{part[3]}" for number in range(1, int(part[4]) + 1)]
    if names[:1] != [file]:
        msg = (
            f"{file!r} is a part of a model that was split into {int(part[4])} files. Name the "
            f"first of them, {part[1]}00001{part[3]}; the others are found next to it."
        )
        raise ModelLoadingError(msg)
    return names


def check_exists(name: str, source: Source) -> None:
    """Raise ``ModelLoadingError`` for a name that is neither on this machine nor a hub id."""
    if find_path(source.location) is None and not source.may_be_on_hub:
        absolute = str(expand(name).absolute())
        msg = (
            f"The model folder {name!r} does not exist: it is {absolute!r}. Give a folder, a GGUF "
            "file or a hub id (owner/name)."
        )
        raise ModelLoadingError(msg)


def split_revision(name: str) -> Source:
    """Split a folder or hub id into its location and, after ``@``, the revision of a hub id."""
    owner_and_name, _, revision = name.rpartition("@")
    return (
        Source(owner_and_name, None, revision) if is_repo_id(owner_and_name) else Source(name, None)
    )
