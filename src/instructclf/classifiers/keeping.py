"""The methods by which a fitted classifier is kept: in a folder, and on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from instructclf.classifiers.saving import FILE, save_classifier
from instructclf.engine.running.processes import is_first_process, sharing_work
from instructclf.exceptions import SavedClassifierError
from instructclf.storage import push_folder


class ClassifierKeeping:
    """Base of classifiers that can be written as JSON and safetensors."""

    model: str | PathLike[str] | tuple[Any, Any]
    distributed: str | None

    def save(
        self, folder: str | PathLike[str], *, scores: Mapping[str, float] | None = None
    ) -> None:
        """Write the fitted classifier into a folder, which `instructclf.load` reads.

        JSON and safetensors only, so that loading runs no code. The base model does not go along:
        its name does, with checksums that tell it from any other. The folder also holds a model
        card, and a tuned classifier's adapter as PEFT stores adapters. It is written beside its
        place and then exchanged, so that a crash leaves the old one or the new one whole. Of
        several processes that share the work only the first writes.

        Parameters
        ----------
        folder : str or path
            Where to. A classifier saved there before is replaced; anything else is an error.
        scores : mapping of str to float, default=None
            Figures for the card, such as ``{"accuracy": 0.91}``.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        SavedClassifierError
            If a parameter cannot be written as text, such as a pair of objects as ``model`` or a
            ``RandomState``, or the folder holds something else.

        See Also
        --------
        push_to_hub : Writes the same into a repository on the hub.

        Notes
        -----
        The solved examples of a prompt are rows of the training data, and are saved as text.
        """
        if self.distributed is None or is_first_process():
            save_classifier(self, folder, scores)

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
        """Write the fitted classifier into a repository on the Hugging Face hub.

        It holds what `save` writes, and ``instructclf.load(repo_id)`` reads it. The token of access
        is that of ``hf auth login``, or of the environment variable ``HF_TOKEN``. Of several
        processes that share the work all must call this, and the first pushes.

        Parameters
        ----------
        repo_id : str
            Owner and name, such as ``"me/reviews"``. The repository is made if there is none; a
            classifier that was pushed there before is replaced, anything else is an error.
        base_model : str or None, default=None
            The hub id of the base model, where ``model`` is a folder of this machine, which nobody
            else has.
        scores : mapping of str to float, default=None
            Figures for the card, such as ``{"accuracy": 0.91}``.
        private : bool or None, default=None
            Whether a repository that is made is private. ``None`` takes the owner's default.
        revision : str or None, default=None
            The branch, which is made if there is none. ``None`` for the main branch.
        commit_message : str or None, default=None
            What to say about it. ``None`` names the classifier's class.

        Returns
        -------
        str
            The address of the commit.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        SavedClassifierError
            If ``model`` is a folder of this machine and ``base_model`` is not given, the repository
            holds something else, the hub refuses or cannot be reached, or the classifier cannot be
            saved.

        See Also
        --------
        save : Writes the same into a folder.

        Notes
        -----
        The solved examples of a prompt are rows of the training data, and are published as text.
        """
        if base_model is None and _is_on_this_machine(self.model):
            msg = (
                f"'model' is {str(self.model)!r}, on this machine, where nobody else can load it "
                "from. Give the hub id of the same model, push_to_hub(..., base_model='owner/name')"
                ", and push it there first if it is your own."
            )
            raise SavedClassifierError(msg)
        with sharing_work(self.distributed) as processes:
            address = ""
            if processes.rank == 0:
                address = self._push(
                    repo_id,
                    base_model,
                    scores,
                    private=private,
                    revision=revision,
                    commit_message=commit_message or f"Add {type(self).__name__}",
                )
            return processes.from_first(address)

    def _push(
        self,
        repo_id: str,
        base_model: str | None,
        scores: Mapping[str, float] | None,
        **options: Any,
    ) -> str:
        """Save into a folder that is pushed and forgotten."""
        with TemporaryDirectory() as parent:
            folder = Path(parent) / "classifier"
            save_classifier(self, folder, scores, model_name=base_model, place=repo_id)
            return push_folder(folder, repo_id, FILE, **options)


def _is_on_this_machine(model: Any) -> bool:
    if isinstance(model, tuple) or model == "bundled":
        return False
    return Path(model).expanduser().exists()
