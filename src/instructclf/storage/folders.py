"""A folder's new contents → that folder, in one step that cannot be seen half done.

Contents are written beside the folder, synced to the disk, and change places with it. Linux and
macOS exchange two folders in one operation. Elsewhere there are two renames, and whoever reads
between them finds the old folder by the name that it has meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from instructclf.exceptions import SavedClassifierError
from instructclf.storage.places import make_place_beside, remove_abandoned, sync

_HERE = -100
_SWAP = 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux; RENAME_SWAP of macOS has the same value."""
_N_LOOKS = 5
_WRITTEN = {".json", ".safetensors", ".md", ".txt", ".jinja", ".model"}
"""What the files of a saved classifier, or of a model and its tokenizer, end in."""
_OF_NO_USE = {".DS_Store"}
"""What a system leaves in folders that somebody has looked at."""


@contextmanager
def replacing_folder(folder: Path, marker: str) -> Iterator[Path]:
    """Give an empty folder to write into, which then takes the place of another.

    Parameters
    ----------
    folder : pathlib.Path
        The folder to write. Its parents are made.
    marker : str
        A file that shows that a folder may be replaced. Others are not touched, unless empty.

    Yields
    ------
    pathlib.Path
        Where to write meanwhile. Where an exception leaves the block, it is removed again.

    Raises
    ------
    SavedClassifierError
        If there is something else at this place.
    """
    check_place(folder, marker)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    fresh = make_place_beside(folder)
    fresh.mkdir()
    try:
        yield fresh
        for path in [*fresh.rglob("*"), fresh]:
            sync(path)
        _put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def find_folder(folder: Path) -> Path:
    """Return a folder, or its old contents where a replacement was cut off between two renames.

    Parameters
    ----------
    folder : pathlib.Path
        The folder as it was saved.

    Returns
    -------
    pathlib.Path
        Where its contents are.
    """
    old = _old(folder.resolve())
    return old if old.is_dir() and not folder.exists() else folder


def check_place(folder: Path, marker: str) -> None:
    """Raise if something that this package has not written would be lost.

    Parameters
    ----------
    folder : pathlib.Path
        The folder to write.
    marker : str
        A file that shows that a folder may be replaced.

    Raises
    ------
    SavedClassifierError
        If there is a file, or a folder with other contents, or one that cannot be exchanged: the
        current one, or a mount point.
    """
    place = folder.resolve()
    if place == Path.cwd() or place.is_mount():
        what = "a mount point" if place.is_mount() else "the current folder"
        msg = (
            f"{str(folder)!r} is {what}, which no other folder can replace. Give a folder in it, "
            f"such as {str(folder / 'classifier')!r}."
        )
        raise SavedClassifierError(msg)
    # Where another process puts its folder in place meanwhile, a look may find half of each.
    if not any(_is_free(place, marker) for _ in range(_N_LOOKS)):
        msg = (
            f"{str(folder)!r} holds something else: there is no {marker!r} in it. It is left as it "
            "is. Give another folder, or remove it first."
        )
        raise SavedClassifierError(msg)
    _check_nothing_is_lost(place)


def _check_nothing_is_lost(folder: Path) -> None:
    """Raise if a folder that may be replaced has something that this package never writes."""
    # Unlike rglob, os.walk passes over what another process takes away meanwhile.
    paths = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    for path in paths:
        if path.suffix not in _WRITTEN and path.name not in _OF_NO_USE:
            msg = (
                f"{str(folder)!r} holds {str(path.relative_to(folder))!r}, which is no part of "
                "what was saved there and would be lost. Move it away, or give another folder."
            )
            raise SavedClassifierError(msg)


def _is_free(folder: Path, marker: str) -> bool:
    if (folder / marker).is_file():
        return True
    try:
        return not any(folder.iterdir())
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _put_in_place(fresh: Path, folder: Path) -> None:
    if not _is_put_where_nothing_is(fresh, folder) and not _exchange(fresh, folder):
        _rename_twice(fresh, folder)
    sync(folder.parent)
    shutil.rmtree(_old(folder), ignore_errors=True)


def _is_put_where_nothing_is(fresh: Path, folder: Path) -> bool:
    if folder.is_dir():
        return False
    try:
        fresh.rename(folder)
    except OSError:
        if folder.is_dir():  # meanwhile another process has put its own there
            return False
        raise
    return True


def _rename_twice(fresh: Path, folder: Path) -> None:
    old = _old(folder)
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    fresh.rename(folder)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one operation, if the system has one."""
    paths = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return library.renamex_np(*paths, _SWAP) == 0
        return library.renameat2(_HERE, paths[0], _HERE, paths[1], _SWAP) == 0
    except (AttributeError, OSError, TypeError):  # another system, or an older one
        return False
