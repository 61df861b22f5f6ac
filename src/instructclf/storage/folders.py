"""A folder's new contents → that folder, in one step that nobody can see half done.

Contents are written to a temporary folder next to it, synced to the disk, and exchanged with it.
Linux and macOS exchange two folders in one operation. Other systems need two renames; a reader
between them finds the old folder under its temporary name.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instructclf.exceptions import SavedClassifierError
from instructclf.inputs.paths import expand
from instructclf.storage.files import remove_abandoned, rename, set_mode, sync, temporary_path

_CURRENT_FOLDER = -100
_EXCHANGE = 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux; RENAME_SWAP of macOS has the same value."""
_N_LOOKS = 5
_ENDINGS = {".json", ".safetensors", ".md", ".txt", ".jinja", ".model"}
"""The endings of all files of a model and its tokenizer, which no file lists."""
_CARD = "README.md"
"""Lists of files leave it out, since it may be edited."""
_IGNORED = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that an operating system adds to folders that somebody opens."""


@contextmanager
def replacing_folder(folder: Path, marker: str) -> Iterator[Path]:
    """Yield an empty folder to write into, which then replaces another folder.

    Raises
    ------
    SavedClassifierError
        If the folder holds something else.
    """
    check_replaceable(folder, marker)
    folder = expand(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    fresh = temporary_path(folder)
    fresh.mkdir()
    try:
        yield fresh
        for path in [*fresh.rglob("*"), fresh]:
            if path.is_file():
                set_mode(path, fresh.stat().st_mode)
            sync(path)
        _replace(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def find_folder(folder: Path) -> Path:
    """Return a folder, or its old contents if a process was killed between two renames."""
    folder = expand(folder)
    old = _old(folder.resolve())
    return old if old.is_dir() and not folder.exists() else folder


def check_replaceable(folder: Path, marker: str) -> None:
    """Raise an error if replacing a folder would lose files of others.

    Raises
    ------
    SavedClassifierError
        If the path is a file, a folder with other contents, the current folder or a mount point.
    """
    path = expand(folder).resolve()
    is_mount = os.path.ismount(path)  # Path.is_mount fails on Windows before Python 3.12
    if path == Path.cwd() or is_mount:
        what = "a mount point" if is_mount else "the current folder"
        msg = (
            f"{str(folder)!r} is {what}, which no other folder can replace. Give a folder in it, "
            f"such as {str(folder / 'classifier')!r}."
        )
        raise SavedClassifierError(msg)
    # While another process exchanges the folder, one look may find half of each.
    if not any(_is_free(path, marker) for _ in range(_N_LOOKS)):
        msg = (
            f"{str(folder)!r} holds something else: there is no {marker!r} in it. It is not "
            "changed. Give another folder, or remove it first."
        )
        raise SavedClassifierError(msg)
    stray = None
    for _ in range(_N_LOOKS):
        stray = _find_stray(path, marker)
        if stray is None:
            return
    msg = (
        f"{str(folder)!r} holds {stray!r}, which was not saved by this package and would be lost. "
        "Move it away, or give another folder."
    )
    raise SavedClassifierError(msg)


def _find_stray(folder: Path, marker: str) -> str | None:
    """Return a file of a folder that this package has not written there, if there is one."""
    known = _list_files(folder, marker)
    # Unlike rglob, os.walk skips folders that another process removes meanwhile.
    for parent, _, names in os.walk(folder):
        for name in names:
            path = (Path(parent) / name).relative_to(folder)
            is_known = path.suffix in _ENDINGS if known is None else path.as_posix() in known
            if not is_known and name not in {_CARD, *_IGNORED}:
                return path.as_posix()
    return None


def _list_files(folder: Path, marker: str) -> set[str] | None:
    """Return the files that a folder was written with, or ``None`` if its marker lists none."""
    try:
        files = json.loads((folder / marker).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return {marker, *files} if isinstance(files, dict) else None


def _is_free(folder: Path, marker: str) -> bool:
    if (folder / marker).is_file():
        return True
    try:
        return all(path.name in _IGNORED for path in folder.iterdir())
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _replace(folder: Path, fresh: Path) -> None:
    moved = _old(folder)
    try:
        while not _rename_to_new(fresh, folder) and not _exchange(fresh, folder):
            moved = _move_away(folder)
    except PermissionError as error:
        msg = (
            f"{str(folder)!r} cannot be replaced: {error.strerror}. Close the programs that have a "
            "file in it open (on Windows, a model that was loaded from it does), or give another "
            "folder."
        )
        raise SavedClassifierError(msg) from error
    finally:
        if not folder.exists():
            with suppress(OSError):
                moved.rename(folder)
    sync(folder.parent)
    shutil.rmtree(moved, ignore_errors=True)


def _move_away(folder: Path) -> Path:
    """Rename the old folder, which `find_folder` finds until the new one has its name."""
    old = _old(folder)
    shutil.rmtree(old, ignore_errors=True)
    if old.exists():  # on Windows, if a program has a file in it open
        old = temporary_path(folder)
    try:
        rename(folder, old)
    except FileNotFoundError:  # another process has moved it meanwhile
        pass
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, old)  # a folder of a container's image cannot be renamed
        shutil.rmtree(folder)
    return old


def _rename_to_new(fresh: Path, folder: Path) -> bool:
    """Rename a folder, unless there is one of the new name already."""
    if folder.is_dir():
        return False
    try:
        rename(fresh, folder)
    except OSError:
        if folder.is_dir():  # another process has made one meanwhile
            return False
        raise
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one operation, if the system has one."""
    paths = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return library.renamex_np(*paths, _EXCHANGE) == 0
        first, second = ((_CURRENT_FOLDER, path) for path in paths)
        return library.renameat2(*first, *second, _EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):  # Windows, or an old version of the others
        return False
