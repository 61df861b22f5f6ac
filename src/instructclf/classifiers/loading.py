"""Folder or repository on the hub → fitted classifier, of whichever kind it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import instructclf
from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.saving.folders import FILE, FORMAT, SCHEMA
from instructclf.classifiers.saving.places import Place
from instructclf.classifiers.saving.reading import read_prompted
from instructclf.classifiers.saving.schema_1 import upgrade
from instructclf.classifiers.several.outputs import MultiOutputPromptClassifier
from instructclf.classifiers.wrapping.bag_of_words import BagOfWordsClassifier
from instructclf.classifiers.wrapping.blending import BlendedClassifier
from instructclf.classifiers.wrapping.conformal import ConformalClassifier
from instructclf.classifiers.wrapping.ordinal import OrdinalClassifier
from instructclf.classifiers.wrapping.selective import SelectiveClassifier
from instructclf.classifiers.wrapping.storing.stored import StoredClassifier
from instructclf.classifiers.wrapping.storing.wrappers import INSIDE, WrapperFormat
from instructclf.exceptions import SavedClassifierError
from instructclf.inputs.paths import expand
from instructclf.storage import check_files, fetch_folder, find_folder, is_repo_id

Saved = (
    InstructionTunedClassifier
    | PromptClassifier
    | MultiOutputPromptClassifier
    | BagOfWordsClassifier
    | BlendedClassifier
    | SelectiveClassifier
    | ConformalClassifier
    | OrdinalClassifier
)
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Saved)}
_ENTRIES = {"schema": int, "versions": dict, "class": str, "parameters": dict, "files": dict}
"""What every ``classifier.json`` holds."""


def load(folder: str | PathLike[str], *, revision: str | None = None, **changes: Any) -> Saved:
    """Load a classifier that ``save`` or ``push_to_hub`` wrote. Nothing in it is run.

    Parameters
    ----------
    folder : str or path
        The folder. A text such as ``"me/reviews"`` is a repository on the hub if there is no folder
        of this name; only its JSON and safetensors files are fetched.
    revision : str or None, default=None
        The branch, tag or commit on the hub. ``None`` for the main branch.
    **changes : object
        Parameters to take instead of the saved ones, such as ``model`` if the base model is in
        another folder now, or ``model_options__device``. Those of a classifier inside another one
        have its name before them, as in ``set_params``: ``tuning__model`` in a blend, and
        ``estimator__model`` in the others.

    Returns
    -------
    InstructionTunedClassifier, PromptClassifier, MultiOutputPromptClassifier, \
    BagOfWordsClassifier, BlendedClassifier, SelectiveClassifier, ConformalClassifier or \
    OrdinalClassifier
        The fitted classifier, which predicts what it predicted when it was saved.

    Raises
    ------
    SavedClassifierError
        If the folder is no saved classifier, a file is missing or has changed, it was saved by a
        newer version, the base model is not the one it was made with, or the hub cannot be reached
        or has no such repository.
    ModelLoadingError
        If the base model cannot be loaded.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from instructclf import PromptClassifier, load
    >>> classifier = PromptClassifier(n_shots=2, random_state=0)
    >>> classifier = classifier.fit(["Works well.", "Broke at once."], ["positive", "negative"])
    >>> with TemporaryDirectory() as parent:
    ...     classifier.save(f"{parent}/reviews")
    ...     load(f"{parent}/reviews").classes_.tolist()
    ['negative', 'positive']
    """
    path = find_folder(_find(folder, revision))
    return _load_at(Place(path, str(folder)), changes)


def name_options(
    folder: str | PathLike[str], options: Mapping[str, Any], *, revision: str | None = None
) -> dict[str, Any]:
    """Name options of the classifier inside wrappers as `load` takes them.

    Parameters
    ----------
    folder : str or path
        What `load` takes.
    options : mapping of str to object
        Parameters such as ``model``.
    revision : str or None, default=None
        What `load` takes.

    Returns
    -------
    dict of str to object
        The same, with an ``estimator__`` before each name for every wrapper.

    Raises
    ------
    SavedClassifierError
        If the folder is no saved classifier.
    """
    path, prefix = find_folder(_find(folder, revision)), ""
    while _is_wrapper(_read(path / FILE)["class"]):
        path, prefix = path / INSIDE, f"{prefix}{INSIDE}__"
    return {prefix + name: value for name, value in options.items()}


def _is_wrapper(name: str) -> bool:
    return isinstance(getattr(_KINDS.get(name), "_FORMAT", None), WrapperFormat)


def _find(folder: str | PathLike[str], revision: str | None) -> Path:
    """Return the folder, fetched from the hub if it is not on this machine."""
    path = expand(folder)
    try:
        is_here = find_folder(path).exists()
    except (OSError, ValueError) as error:  # too long, or with a null character
        msg = f"{str(folder)[:80]!r} is no path of a saved classifier: {error}."
        raise SavedClassifierError(msg) from error
    if not is_here and isinstance(folder, str) and is_repo_id(folder):
        return fetch_folder(folder, FILE, revision)
    if revision is not None:
        msg = (
            f"revision={revision!r} is one of a repository on the hub, and {str(folder)!r} is a "
            "folder or no name of a repository. Leave it out."
        )
        raise SavedClassifierError(msg)
    return path


def _read(path: Path) -> dict[str, Any]:
    if path.parent.is_file():
        msg = (
            f"{str(path.parent)!r} is a file, and a saved classifier is a folder: the one that its "
            "method save wrote. Pickles are not read here, because they run code."
        )
        raise SavedClassifierError(msg)
    if not path.is_file():
        msg = f"There is no saved classifier in {str(path.parent)!r}: it has no {FILE}."
        raise SavedClassifierError(msg)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is no JSON, so it is truncated or corrupt: {error}"
        raise SavedClassifierError(msg) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        msg = f"{path} is no saved classifier: its format is not {FORMAT!r}."
        raise SavedClassifierError(msg)
    _check_entries(record, _ENTRIES, path)
    if record["schema"] > SCHEMA:
        msg = (
            f"{path} was saved by instructclf {record['versions']['instructclf']} in schema "
            f"{record['schema']}; this is {instructclf.__version__}, which reads up to schema "
            f"{SCHEMA}. Upgrade instructclf."
        )
        raise SavedClassifierError(msg)
    if record["schema"] == 1:
        return upgrade(record)
    _check_entries(record, {"fitted": dict}, path)
    return record


def _check_entries(record: Mapping[str, Any], kinds: Mapping[str, type], path: Path) -> None:
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            msg = (
                f"{path} is incomplete or was changed: its {name!r} is {record.get(name)!r}, and "
                f"no {kind.__name__}. Save the classifier again, or copy all files."
            )
            raise SavedClassifierError(msg)


def _load_at(place: Place, changes: Mapping[str, Any]) -> Any:
    """Load the classifier at a place, with the classifiers inside it."""
    record = _read(place.folder / FILE)
    check_files(place.folder, record["files"])
    kind = _KINDS.get(record["class"])
    if kind is None:
        msg = f"{place.folder / FILE} is of a {record['class']!r}. There are: {', '.join(_KINDS)}."
        raise SavedClassifierError(msg)
    if issubclass(kind, StoredClassifier):
        return kind._FORMAT.read(kind, record, place, changes, _load_at)  # noqa: SLF001
    return read_prompted(kind, record, place, changes)
