"""Arrays and a description ↔ one file, which is replaced as a whole and checked when it is read.

A process that reads while another one writes gets the old or the new file. The format is
safetensors: numbers and text, no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from instructclf.exceptions import CheckpointError
from instructclf.storage.files import replacing_file

_DESCRIPTION = "description"
_CHECKSUM = "sha256"


def write_record(
    path: Path, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write a description and arrays into one file, with a checksum over both."""
    text = json.dumps(description)
    metadata = {_DESCRIPTION: text, _CHECKSUM: _checksum(text, arrays)}
    with replacing_file(path) as fresh:
        save_file(dict(arrays), fresh, metadata)


def read_record(path: Path, remedy: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a file that `write_record` wrote.

    Raises
    ------
    CheckpointError
        If the file is truncated, corrupt or from another program.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        msg = (
            f"{path} cannot be read: it is truncated, corrupt or from another program. {remedy} "
            f"The error was: {error}"
        )
        raise CheckpointError(msg) from error
    text = metadata.get(_DESCRIPTION, "")
    if metadata.get(_CHECKSUM) != _checksum(text, arrays):
        msg = (
            f"{path} is not the file that was written: its checksum differs, so it is corrupt or "
            f"from another program. {remedy}"
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
