"""Base of fitted classifiers that are saved in a folder, with the classifiers inside them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import ClassVar

from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.saving.publishing import push_classifier
from instructclf.classifiers.wrapping.storing.formats import Format, Notes
from instructclf.classifiers.wrapping.storing.parts import check_parts, find_prompted
from instructclf.inputs.paths import expand


class StoredClassifier(ABC):
    """Base of classifiers without a prompt of their own that have a ``_FORMAT`` to be saved in."""

    _FORMAT: ClassVar[Format]

    def save(
        self, folder: str | PathLike[str], *, scores: Mapping[str, float] | None = None
    ) -> None:
        """Write the fitted classifier into a folder, which `instructclf.load` reads.

        The folder holds JSON and safetensors only, so loading it runs no code, and a model card. A
        classifier inside this one has a folder in it, as its own ``save`` writes it: with the
        solved examples of a prompt or the words of a `BagOfWordsClassifier`, which come from the
        training data, and without the base model. A crash leaves the old folder or the new one
        whole. Of several processes that share the work only the first writes.

        Parameters
        ----------
        folder : str or path
            Where to. A classifier saved there before is replaced; anything else is an error.
        scores : mapping of str to float, default=None
            Figures for the card, such as ``{"accuracy": 0.91}``.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        SavedClassifierError
            If a classifier inside is none of this package's, and only a pickle could store it; if a
            parameter cannot be written as text, such as a splitter as ``cv`` or a ``RandomState``,
            or was set after ``fit`` and says what was not fitted; or if the folder holds something
            else.
        """
        self._check_stored()
        if all(one._writes_files for one in find_prompted(self)):  # noqa: SLF001
            self._FORMAT.write(self, expand(folder), Notes(scores or {}))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        base_model: str | None = None,
        scores: Mapping[str, float] | None = None,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
    ) -> str:
        """Write what `save` writes into a repository on the Hugging Face hub.

        ``instructclf.load(repo_id)`` reads it. The access token is that of ``hf auth login`` or
        ``HF_TOKEN``. Of several processes that share the work all call this, and the first pushes.

        Parameters
        ----------
        repo_id : str
            Owner and name, such as ``"me/reviews"``. The repository is made if there is none; a
            classifier that was pushed there before is replaced, anything else is an error.
        base_model : str or None, default=None
            The hub id of the base model of the classifiers inside, if their ``model`` is a folder
            that nobody else has. They must have the same one.
        scores : mapping of str to float, default=None
            Figures for the card, such as ``{"accuracy": 0.91}``.
        private : bool or None, default=None
            Whether a new repository is private. ``None`` takes the owner's default.
        revision : str or None, default=None
            The branch, which is made if there is none. ``None`` for the main branch.
        commit_message : str or None, default=None
            ``None`` names the classifier's class.

        Returns
        -------
        str
            The address of the commit.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        SavedClassifierError
            If a base model is a local folder and ``base_model`` is not given, or names one of
            several base models; if the repository holds something else, the hub refuses or cannot
            be reached; or if the classifier cannot be saved.
        """
        self._check_stored()

        def write(folder: Path, model_names: Mapping[str, str]) -> None:
            self._FORMAT.write(self, folder, Notes(scores or {}, model_names, repo_id))

        return push_classifier(
            write,
            find_prompted(self),
            repo_id,
            base_model=base_model,
            private=private,
            revision=revision,
            commit_message=commit_message or f"Add {type(self).__name__}",
        )

    def _check_stored(self) -> None:
        """Raise an error if this is not fitted, or something inside cannot be saved."""
        check_is_fitted(self, list(self._FORMAT.fitted))
        check_parts(self)
