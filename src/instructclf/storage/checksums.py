"""Files → checksums, so that an error can name a damaged or exchanged file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from instructclf.exceptions import SavedClassifierError


def find_checksums(folder: Path) -> dict[str, str]:
    """Return the checksum of every file in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files}


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Raise an error unless all files exist and have the checksums they were saved with.

    Raises
    ------
    SavedClassifierError
        If a file is missing or has changed.
    """
    for name, known in expected.items():
        path = folder / name
        if not path.is_file():
            msg = f"{path} is missing from the saved classifier. Save it again, or copy all files."
            raise SavedClassifierError(msg)
        if checksum(path) != known:
            msg = (
                f"{path} is not the file that was saved: its checksum differs, so it is truncated, "
                "corrupt or from another save. Save the classifier again, or copy all files."
            )
            raise SavedClassifierError(msg)


def checksum(path: Path) -> str:
    """Return the SHA-256 checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
