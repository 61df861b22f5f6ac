"""Folder or repository on the hub → fitted classifier, of whichever kind it is."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.saving import FILE, load_classifier
from instructclf.exceptions import SavedClassifierError
from instructclf.storage import fetch_folder, find_folder, is_repo_id

_KINDS = {kind.__name__: kind for kind in (InstructionTunedClassifier, PromptClassifier)}


def load(
    folder: str | PathLike[str], *, revision: str | None = None, **changes: Any
) -> InstructionTunedClassifier | PromptClassifier:
    """Load a classifier that ``save`` or ``push_to_hub`` wrote. Nothing in it is run.

    Parameters
    ----------
    folder : str or path
        The folder. A text such as ``"me/reviews"`` is a repository on the hub where there is no
        folder of this name; only its JSON and safetensors files are fetched.
    revision : str or None, default=None
        The branch, tag or commit on the hub. ``None`` for the main branch.
    **changes : object
        Parameters to take instead of the saved ones, such as ``model`` where the base model is
        another folder now, or ``device``.

    Returns
    -------
    InstructionTunedClassifier or PromptClassifier
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
    return load_classifier(_find(folder, revision), _KINDS, changes)


def _find(folder: str | PathLike[str], revision: str | None) -> Path:
    """Return the folder, fetched from the hub if it is not here."""
    place = Path(folder)
    is_here = find_folder(place).exists()
    if not is_here and isinstance(folder, str) and is_repo_id(folder):
        return fetch_folder(folder, FILE, revision)
    if revision is not None:
        msg = (
            f"revision={revision!r} is one of a repository on the hub, and {str(folder)!r} is a "
            "folder or no name of a repository. Leave it out."
        )
        raise SavedClassifierError(msg)
    return place
