"""A Windows of a few dozen lines: what its calls on files refuse, on Linux."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from pathlib import Path

import psutil
import pytest

if os.name == "posix":
    import fcntl
_open, _fsync, _replace, _unlink = os.open, os.fsync, os.replace, os.unlink
_library = ctypes.CDLL


class InUseError(PermissionError):
    """What Windows says of a file that somebody has open, and of a folder with such a file."""

    winerror = 32


class AccessDeniedError(PermissionError):
    """What Windows says if a folder already has the new name."""

    winerror = 5


def check_unused(path):
    """Raise if this process has the file, or one in the folder, open or mapped into memory."""
    process = psutil.Process()
    used = {Path(one.path) for one in [*process.open_files(), *process.memory_maps()]}
    if any(Path(path) in (file, *file.parents) for file in used):
        raise InUseError(errno.EACCES, "The process cannot access the file", str(path))


def open_there(path, flags, *rest, **options):
    is_writing = flags & (os.O_WRONLY | os.O_RDWR)
    is_read_only = Path(path).exists() and not Path(path).stat().st_mode & stat.S_IWUSR
    if Path(path).is_dir() or (is_writing and is_read_only):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return _open(path, flags, *rest, **options)


def fsync_there(handle):
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _fsync(handle)


def replace_there(old, new):
    check_unused(old)
    check_unused(new)
    if Path(new).is_dir():
        raise AccessDeniedError(errno.EACCES, "Access is denied", str(new))
    _replace(old, new)


def rename_there(old, new):
    if Path(new).exists():
        raise FileExistsError(errno.EEXIST, "File exists", str(new))
    replace_there(old, new)


def unlink_there(path, **options):
    check_unused(path)
    _unlink(path, **options)


def library_there(name, *rest, **options):
    if name is None:
        raise TypeError("bad argument type for built-in operation")
    return _library(name, *rest, **options)


@pytest.fixture
def windows(monkeypatch):
    """Let files behave as on Windows; return the signals that would have been sent."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("It takes Linux to find out which files are open.")
    for name in ("open", "fsync", "replace", "rename", "unlink"):
        monkeypatch.setattr(os, name, globals()[f"{name}_there"])
    monkeypatch.setattr(shutil, "_use_fd_functions", False)  # which Windows lacks
    monkeypatch.setattr(ctypes, "CDLL", library_there)
    sent = []
    monkeypatch.setattr(os, "kill", lambda process, signal: sent.append((process, signal)))
    return sent
