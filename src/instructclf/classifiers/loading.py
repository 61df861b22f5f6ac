"""Folder → fitted classifier, of whichever kind it is."""

from __future__ import annotations

from os import PathLike
from typing import Any

from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.saving import load_classifier

_KINDS = {kind.__name__: kind for kind in (InstructionTunedClassifier, PromptClassifier)}


def load(
    folder: str | PathLike[str], **changes: Any
) -> InstructionTunedClassifier | PromptClassifier:
    """Load a classifier that ``save`` wrote. Nothing in the folder is run.

    Parameters
    ----------
    folder : str or path
        The folder.
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
        newer version, or the base model is not the one it was made with.
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
    return load_classifier(folder, _KINDS, changes)
