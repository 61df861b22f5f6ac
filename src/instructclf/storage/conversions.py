"""Files → a folder with what they were converted to, which is kept for the next time.

A folder is named after the contents of the files and whatever else decides the conversion. It
appears as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError

from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from instructclf.storage.checksums import check_files, checksum
from instructclf.storage.folders import replacing_folder

_logger = logging.getLogger(__name__)

_RECORD = "conversion.json"
_WEIGHTS = ".safetensors"


def find_conversion(
    root: Path,
    list_files: Callable[[], Mapping[str, Path]],
    versions: Sequence[str],
    convert: Callable[[Path], None],
) -> Path | None:
    """Return the folder in ``root`` with what files were converted to.

    If there is none yet, or it is damaged, ``convert`` writes it into an empty folder. The result
    is ``None``, with a warning in the log, if that cannot be kept.

    Parameters
    ----------
    root : Path
        Where conversions are kept.
    list_files : callable
        Returns the files that are converted, by names that count too.
    versions : sequence of str
        What else decides the conversion. The last one ends the name of the folder.
    convert : callable
        Writes into the folder that it gets. A ``ModelLoadingError`` that it raises is passed on.
    """
    contents = _describe(list_files())
    folder = root / _name(contents, versions)
    if _is_whole(folder):
        return folder
    remove_conversion(folder)
    try:
        with replacing_folder(folder, _RECORD) as fresh:
            convert(fresh)
            _write_record(fresh)
        return _rename(folder, versions, contents, _describe(list_files()))
    except ModelLoadingError:
        raise
    except (OSError, SafetensorError, SavedClassifierError) as error:
        if _is_whole(folder):  # another process has written it meanwhile
            return folder
        _logger.warning("%s cannot keep a converted model for the next time: %s", root, error)
        return None


def remove_conversion(folder: Path) -> None:
    """Remove a folder that is damaged, if there is one."""
    if folder.exists():
        _logger.warning("The converted model in %s is damaged and made anew", folder)
        shutil.rmtree(folder, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Say whether files have the lengths they were written with, and small ones the contents."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        lengths = {name: (folder / name).stat().st_size for name in record["lengths"]}
        check_files(folder, record["checksums"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SavedClassifierError):
        return False
    return bool(lengths) and lengths == record["lengths"]


def _describe(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: checksum(path) for name, path in files.items()}


def _name(contents: dict[str, str], versions: Sequence[str]) -> str:
    key = json.dumps([sorted(contents.items()), versions])
    return f"{hashlib.sha256(key.encode()).hexdigest()[:40]}-{versions[-1]}"


def _write_record(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    record = {
        "lengths": {name: path.stat().st_size for name, path in files.items()},
        "checksums": _describe({k: v for k, v in files.items() if v.suffix != _WEIGHTS}),
    }
    (folder / _RECORD).write_text(json.dumps(record), encoding="utf-8")


def _rename(
    folder: Path, versions: Sequence[str], before: dict[str, str], after: dict[str, str]
) -> Path | None:
    """Rename a folder after the files that are there now, if those before are the same.

    From the hub, transformers fetches files beside the one that it converts.
    """
    if before == after:
        return folder
    if not before.items() <= after.items():
        shutil.rmtree(folder, ignore_errors=True)
        return None
    renamed = folder.with_name(_name(after, versions))
    shutil.rmtree(renamed, ignore_errors=True)
    return folder.rename(renamed)
