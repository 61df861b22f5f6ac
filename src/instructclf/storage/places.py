"""Where something is written before it takes its place, and that it has reached the disk."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path


def make_place_beside(path: Path) -> Path:
    """Return a path in the same folder that is nobody else's, named after this process.

    Parameters
    ----------
    path : pathlib.Path
        The file or folder to write in the end.

    Returns
    -------
    pathlib.Path
        Where to write meanwhile. There is nothing yet.
    """
    return path.with_name(f".{path.name}.new-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def remove_abandoned(path: Path) -> None:
    """Remove what a process that was killed has left beside a file or folder.

    Parameters
    ----------
    path : pathlib.Path
        The file or folder that it was writing.
    """
    for left in path.parent.glob(f".{path.name}.new-*-*"):
        owner = left.name.split("-")[-2]
        if not owner.isdigit() or _is_running(int(owner)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk.

    Parameters
    ----------
    path : pathlib.Path
        The file or folder.
    """
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is there and another's
        return True
    return True
