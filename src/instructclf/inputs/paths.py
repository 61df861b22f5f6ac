"""Paths as users write them → paths of this machine."""

from __future__ import annotations

from os import PathLike
from pathlib import Path


def expand(path: str | PathLike[str]) -> Path:
    """Return a path with the home folder for ``~``, or as it is if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
