"""The shell around one fitted value: a fit that processes share, its model, and its folder."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.questions import find_template
from instructclf.classifiers.saving.publishing import push_classifier
from instructclf.classifiers.saving.writing import save_classifier
from instructclf.classifiers.sharing import SharedModelEstimator, observed
from instructclf.engine.interfaces import LabelScorer
from instructclf.engine.running.processes import sharing_work
from instructclf.inputs.texts import check_texts
from instructclf.prompts import PromptTemplate


class FittedClassifier(ClassifierMixin, SharedModelEstimator, metaclass=ABCMeta):
    """Base of classifiers whose ``fit`` leaves one value, ``labeller_``, which all else reads.

    A subclass makes it, in ``_make_labeller``, and says what its scores mean.
    """

    _FITTED = "labeller_"

    template: str | PromptTemplate
    verbose: int | bool
    labeller_: Any

    # What a fit has learned. Unfitted, these raise AttributeError, as scikit-learn expects.
    shots_ = property(lambda self: self.labeller_.shots)
    prompt_ = property(lambda self: self.labeller_.prompt)
    max_length_ = property(lambda self: self.labeller_.max_length)

    @abstractmethod
    def _make_labeller(self, X: Any, y: Any, sample_weight: Any) -> Any:
        """Return what is learned from rows."""

    @observed
    def _fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit, together with the other processes of the job if there are any."""
        self._validate_params()
        # After a fit that fails, the old labeller only serves to continue from.
        self._previous = vars(self).pop("labeller_", None) or vars(self).get("_previous")
        with sharing_work(self._find_options("model_options").distributed):
            find_template(self.template)  # a wrong name is an error before a model is loaded
            self.labeller_ = self._make_labeller(X, y, sample_weight)
        del self._previous
        return self

    def _ask_about(self, text: str) -> tuple[LabelScorer, str]:
        """Return what scores the one question, and the checked text."""
        check_is_fitted(self)
        (checked,) = check_texts([text])
        return self.labeller_.scorer(self._fitted_model), checked

    # Saving

    def save(
        self, folder: str | PathLike[str], *, scores: Mapping[str, float] | None = None
    ) -> None:
        """Write the fitted classifier into a folder, which `instructclf.load` reads.

        The folder holds JSON and safetensors only, so loading it runs no code; the solved examples
        of a prompt, which are rows of the training data, as text; a model card; and a tuned
        classifier's adapter as PEFT stores adapters. The base model is not copied: its name is
        stored, with checksums. A crash leaves the old folder or the new one whole. Of several
        processes that share the work only the first writes.

        Parameters
        ----------
        folder : str or path
            Where to. A classifier saved there before is replaced; anything else is an error.
        scores : mapping of str to float, default=None
            Figures for the card, such as ``{"accuracy": 0.91}``.

        Raises
        ------
        SavedClassifierError
            If a parameter cannot be written as text, such as a pair of objects as ``model`` or a
            ``RandomState``, or the folder holds something else.
        """
        if self._writes_files:
            save_classifier(self, self._fitted_model, folder, scores)

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
            The hub id of the base model, if ``model`` is a folder that nobody else has.
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
        SavedClassifierError
            If ``model`` is a local folder and ``base_model`` is not given, the repository holds
            something else, the hub refuses or cannot be reached, or the classifier cannot be saved.
        """

        def write(folder: Path, model_names: Mapping[str, str]) -> None:
            name = model_names.get(str(self.model))
            save_classifier(
                self, self._fitted_model, folder, scores, model_name=name, source=repo_id
            )

        return push_classifier(
            write,
            [self],
            repo_id,
            base_model=base_model,
            private=private,
            revision=revision,
            commit_message=commit_message or f"Add {type(self).__name__}",
        )
