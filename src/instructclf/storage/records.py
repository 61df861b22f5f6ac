"""Arrays and a description ↔ one file, which is whole or not there, and known when it is damaged.

One file, so that whoever reads while another process replaces it gets the old or the new one. It is
safetensors: numbers and text, nothing that could run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from instructclf.exceptions import CheckpointError
from instructclf.storage.places import make_place_beside, remove_abandoned, sync

_DESCRIPTION = "description"
_CHECKSUM = "sha256"


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which then takes the place of another in one step.

    Parameters
    ----------
    path : pathlib.Path
        The file to write. Its parents are made.

    Yields
    ------
    pathlib.Path
        Where to write meanwhile. Where an exception leaves the block, it is removed again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    fresh = make_place_beside(path)
    try:
        yield fresh
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def write_record(
    path: Path, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write a description and arrays into one file, with a checksum over both.

    Parameters
    ----------
    path : pathlib.Path
        The file. One that is there is replaced.
    description : mapping
        What JSON can hold.
    arrays : mapping of str to ndarray
        The arrays.
    """
    text = json.dumps(description)
    metadata = {_DESCRIPTION: text, _CHECKSUM: _checksum(text, arrays)}
    with replacing_file(path) as fresh:
        save_file(dict(arrays), fresh, metadata)


def read_record(path: Path, remedy: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_record` wrote.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    remedy : str
        What to do where it is damaged.

    Returns
    -------
    description : dict
        The description.
    arrays : dict of str to ndarray
        The arrays.

    Raises
    ------
    CheckpointError
        If the file is truncated, corrupt or not of this package.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        msg = f"{path} cannot be read, so it is truncated, corrupt or another's: {error}. {remedy}"
        raise CheckpointError(msg) from error
    text = metadata.get(_DESCRIPTION, "")
    if metadata.get(_CHECKSUM) != _checksum(text, arrays):
        msg = (
            f"{path} is not the file that was written: its checksum differs, so it is corrupt or "
            f"another's. {remedy}"
        )
        raise CheckpointError(msg)
    return json.loads(text), arrays


def _checksum(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
