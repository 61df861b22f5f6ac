"""A file's new contents → that file, in one step that nobody can see half done.

Contents are written to a temporary path in the same folder, synced to the disk, and renamed.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import psutil


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to. The new file then replaces another one in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    fresh = temporary_path(path)
    try:
        yield fresh
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a path in the same folder that nobody else uses, named after this process."""
    return path.with_name(f".{path.name}.new-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def remove_abandoned(path: Path) -> None:
    """Remove the temporary files and folders that killed processes have left for this path."""
    for left in path.parent.glob(f".{escape(path.name)}.new-*-*"):
        process = left.name.split("-")[-2]
        if not process.isdigit() or psutil.pid_exists(int(process)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    flags = os.O_RDONLY
    if os.name == "nt":  # Windows syncs only writable files, and no folders
        if path.is_dir() or not os.access(path, os.W_OK):
            return
        flags = os.O_RDWR
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
