"""A file's new contents → that file, in one step that nobody can see half done.

Contents are written to a temporary path in the same folder, synced to the disk, and renamed.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import stat
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

import psutil

_IN_USE = (5, 32)
"""Windows' errors for a file that another program has open: access denied, sharing violation."""
_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts. Virus scanners hold a new file open for less than a second."""
_CANNOT_SYNC = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
"""Errors of systems that sync no folders, or no files that are read-only."""
_LENGTH = 8
"""Characters of a random part of a name, and of the part that stands for this machine."""
_DAY = 24 * 60 * 60


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to. The new file then replaces another one in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    fresh = temporary_path(path)
    fresh.touch()
    mode = fresh.stat().st_mode
    try:
        yield fresh
        set_mode(fresh, mode)
        sync(fresh)
        rename(fresh, path)
        sync(path.parent)
    finally:
        with suppress(PermissionError):  # on Windows, if an error has left it open
            fresh.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a path in the same folder that nobody else uses, named after process and machine."""
    token = f"{_machine()}{uuid.uuid4().hex[:_LENGTH]}"
    return path.with_name(f".{path.name}.new-{os.getpid()}-{token}")


def remove_abandoned(path: Path) -> None:
    """Remove the temporary files and folders that killed processes have left for this path."""
    for left in path.parent.glob(f".{escape(path.name)}.new-*-*"):
        with suppress(OSError):  # another process removes it too, or Windows has it open
            if not _is_abandoned(left):
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def rename(old: Path, new: Path) -> None:
    """Rename a file or folder. Windows may have to wait until another program has closed it."""
    for wait in _WAITS:
        try:
            old.replace(new)
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            time.sleep(wait)
        else:
            return
    old.replace(new)


def set_mode(file: Path, mode: int) -> None:
    """Give a file the permissions of new files. safetensors writes files that are private."""
    permissions = stat.S_IMODE(mode) & 0o666
    if stat.S_IMODE(file.stat().st_mode) != permissions:
        with suppress(PermissionError):  # some file systems keep no permissions
            file.chmod(permissions)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    try:
        handle = os.open(path, os.O_RDWR)  # Windows syncs nothing that was opened for reading
    except (IsADirectoryError, PermissionError):
        try:
            handle = os.open(path, os.O_RDONLY)
        except PermissionError:  # Windows opens no folders
            return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


def _is_abandoned(left: Path) -> bool:
    process, token = left.name.split("-")[-2:]
    if token[:-_LENGTH] not in {"", _machine()}:  # where process numbers mean other processes
        return time.time() - left.stat().st_mtime > _DAY
    if not process.isdigit():
        return False
    try:
        psutil.Process(int(process))
    except psutil.NoSuchProcess:
        return True
    return False


def _machine() -> str:
    """Return a short name of this machine or container, which may share its disk with others."""
    return f"{zlib.crc32(os.fsencode(platform.node())):0{_LENGTH}x}"
