"""A record, and what writes the other files → a folder that is replaced as a whole."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import instructclf
from instructclf.exceptions import SavedClassifierError
from instructclf.inputs.paths import expand
from instructclf.storage import check_files, find_checksums, replacing_folder

FILE = "classifier.json"
CARD = "README.md"
FORMAT = "instructclf classifier"
SCHEMA = 2
_PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "numpy", "safetensors")


def write_folder(
    folder: Path,
    record: Mapping[str, Any],
    *,
    write_parts: Callable[[Path], None],
    write_card: Callable[[Mapping[str, str]], str],
) -> None:
    """Write a saved classifier: its parts, their checksums, the card and ``classifier.json``.

    ``write_parts`` gets the folder, and ``write_card`` the versions of the packages.

    Raises
    ------
    SavedClassifierError
        If the folder holds something else.
    """
    versions = find_versions()
    with replacing_folder(expand(folder), FILE) as fresh:
        write_parts(fresh)
        files = {  # without cards, which may be edited
            name: found for name, found in find_checksums(fresh).items() if Path(name).name != CARD
        }
        whole = {"format": FORMAT, "schema": SCHEMA, "versions": versions, **record, "files": files}
        (fresh / CARD).write_text(write_card(versions), encoding="utf-8", newline="\n")
        write_json(fresh / FILE, whole)
        _check_written(fresh, whole)


def write_json(path: Path, record: Any) -> None:
    """Write numbers, texts, lists and dicts into a file."""
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")


def find_versions() -> dict[str, str]:
    """Return the versions that a folder is written with, by package."""
    versions = {name: version(name) for name in _PACKAGES}
    return {"instructclf": instructclf.__version__, "python": platform.python_version(), **versions}


def _check_written(folder: Path, record: Mapping[str, Any]) -> None:
    """Read back what was written, before it replaces anything."""
    if json.loads((folder / FILE).read_text(encoding="utf-8")) != json.loads(json.dumps(record)):
        msg = f"{folder / FILE} does not read back as it was written. The disk may be full."
        raise SavedClassifierError(msg)
    check_files(folder, record["files"])
