"""The shell around a labeller: what both classifiers share of scikit-learn's interface.

``fit`` builds a labeller, and every other method reads it. A subclass decides what to learn from
the shots, in ``_learn``.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from numbers import Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.fitting import Learned, Rows, fit_ensemble, fit_labeller, read_rows
from instructclf.classifiers.label_scores import LabelScores, choose_labels, mass_of
from instructclf.classifiers.labellers import Labeller, LabellerEnsemble, make_members
from instructclf.classifiers.labels import words_of
from instructclf.classifiers.parameters import CLASSIFIER_CONSTRAINTS
from instructclf.classifiers.questions import find_template
from instructclf.classifiers.saving.publishing import push_classifier
from instructclf.classifiers.saving.writing import save_classifier
from instructclf.classifiers.sharing import SharedModelEstimator, observed
from instructclf.classifiers.showing.prompt import ShownPrompt, look_at_prompt
from instructclf.classifiers.showing.tokens import ShownTokens, look_at_tokens
from instructclf.engine.interfaces import LabelScorer, LanguageModel, Question
from instructclf.engine.running.processes import sharing_work
from instructclf.inputs.texts import check_texts
from instructclf.prompts import PromptTemplate


class PromptedClassifier(ClassifierMixin, SharedModelEstimator, metaclass=ABCMeta):
    """Base of classifiers that score label words after a prompt."""

    _FITTED = "labeller_"
    _parameter_constraints: ClassVar[dict[str, Any]] = CLASSIFIER_CONSTRAINTS

    n_seeds: int
    template: str | PromptTemplate
    verbose: int | bool
    labeller_: Labeller | LabellerEnsemble

    # What a fit has learned. Unfitted, these raise AttributeError, as scikit-learn expects.
    classes_ = property(lambda self: self.labeller_.classes)
    label_words_ = property(lambda self: self.labeller_.label_words)
    shots_ = property(lambda self: self.labeller_.shots)
    prompt_ = property(lambda self: self.labeller_.prompt)
    max_length_ = property(lambda self: self.labeller_.max_length)
    calibration_ = property(lambda self: self.labeller_.calibration)
    estimators_ = property(make_members)

    # What a subclass decides

    @abstractmethod
    def _learn(
        self, model: LanguageModel, question: Question, shots: Rows, rng: np.random.RandomState
    ) -> Learned:
        """Learn from the shots, and return what scores with that."""

    @abstractmethod
    def _check_draws(self) -> None:
        """Raise if shots cannot be drawn as the parameters ask, or several seeds would be alike."""

    @observed
    def _fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit, together with the other processes of the job if there are any."""
        self._validate_params()
        # After a fit that fails, the old labeller only serves to continue from.
        self._previous = vars(self).pop("labeller_", None) or vars(self).get("_previous")
        with sharing_work(self._find_options("model_options").distributed):
            self.labeller_ = self._make_labeller(X, y, sample_weight)
        del self._previous
        return self

    def _make_labeller(self, X: Any, y: Any, sample_weight: Any) -> Labeller | LabellerEnsemble:
        find_template(self.template)  # a wrong name is an error before a model is loaded
        self._check_draws()
        rows = read_rows(self, X, y, sample_weight)
        model = self.open_model()
        if self.n_seeds == 1:
            return fit_labeller(self, rows, model, self._learn)
        return self._average(fit_ensemble(self, rows, model, self._learn), rows, model)

    def _average(
        self, ensemble: LabellerEnsemble, rows: Rows, model: LanguageModel
    ) -> LabellerEnsemble:
        del rows, model  # which a subclass needs
        return ensemble

    # Predicting

    def label_scores(self, X: Any) -> LabelScores:
        """Return the scores of all labels before and after calibration, from one pass.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        LabelScores
            ``log_likelihood`` and ``log_probabilities``, both of shape (n_texts, n_classes).
        """
        check_is_fitted(self)
        with sharing_work(self._find_options("model_options").distributed):
            return self.labeller_.score(check_texts(X), self._fitted_model, verbose=self.verbose)

    def label_log_likelihood(self, X: Any) -> NDArray[np.float64]:
        """Return how likely the model is to answer with each label's words, before calibration.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            ``log p(label words | prompt)``, from the log-softmax over the whole vocabulary, columns
            as in ``classes_``. Likelihoods of several answers to one label are added up; those of
            several seeds are averaged.
        """
        return self.label_scores(X).log_likelihood

    def label_mass(self, X: Any) -> NDArray[np.float64]:
        """Return how likely the model is to answer with any label's words at all.

        With a small mass the model would rather say something else. The mass does not tell how sure
        the model is of one label.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts,)
            The sum of ``exp(label_log_likelihood(X))`` over labels, from 0 to 1.
        """
        return mass_of(self.label_log_likelihood(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of each label's probability.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Log-probabilities, columns in the order of ``classes_``.
        """
        return self.label_scores(X).log_probabilities

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each label. Rows sum to 1.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Probabilities, columns in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any, *, min_label_mass: float | None = None) -> NDArray[Any]:
        """Return the most probable label of each text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        min_label_mass : float or None, default=None
            Abstain where ``label_mass(X)`` is less than this, from 0 to 1. ``None`` never abstains.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``. With ``min_label_mass``, of dtype object and
            ``None``, which scikit-learn's metrics refuse, where the classifier abstains.
        """
        validate_parameter_constraints(
            {"min_label_mass": [Interval(Real, 0, 1, closed="both"), None]},
            {"min_label_mass": min_label_mass},
            caller_name=f"{type(self).__name__}.predict",
        )
        scores = self.label_scores(X)  # which checks that there are classes
        return choose_labels(self.classes_, scores, min_label_mass)

    # Showing

    def get_prompt(self, text: str, label: Any = None) -> str:
        """Return what the model reads for a text.

        Parameters
        ----------
        text : str
            The text.
        label : label or None, default=None
            With a label, the prompt ends with that label's words, which is what is scored.

        Returns
        -------
        str
            The prompt, with the text cut if the context is too short for it.
            If several seeds make several prompts, ask one of ``estimators_``.
        """
        scorer, checked, words = self._ask(text, label)
        filled = scorer.fill_prompt(checked)
        return filled.prompt.render(filled.text, words)

    def show_prompt(self, text: str, label: Any = None) -> ShownPrompt:
        """Show the prompt of a text as the model reads it, with every part named.

        Parameters
        ----------
        text : str
            The text.
        label : label or None, default=None
            With a label, the prompt ends with that label's words, which is what is scored.

        Returns
        -------
        ShownPrompt
            A notebook shows it in colour; ``print`` writes it line by line.
        """
        scorer, checked, words = self._ask(text, label)
        return look_at_prompt(scorer.fill_prompt(checked), checked, words, self.max_length_)

    def show_tokens(self, text: str) -> ShownTokens:
        """Show the tokens that are scored for each label after the prompt of a text.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        ShownTokens
            A table with the id, the characters and the log-probability of each token of each
            answer. Their sum is the answer's log-likelihood. ``print`` writes it as text.
        """
        scorer, checked, _ = self._ask(text)
        labels = zip(self.classes_.tolist(), self.label_words_, strict=True)
        answers = [(label, answer) for label, answers in labels for answer in answers]
        return look_at_tokens(scorer.read_tokens(checked), answers)

    def _ask(self, text: str, label: Any = None) -> tuple[LabelScorer, str, str]:
        """Return what scores the one question, the checked text, and the label's words."""
        check_is_fitted(self)
        (checked,) = check_texts([text])
        words = "" if label is None else words_of(label, self.classes_, self.label_words_)
        return self.labeller_.scorer(self._fitted_model), checked, words

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
        return push_classifier(
            self,
            self._fitted_model,
            repo_id,
            base_model=base_model,
            scores=scores,
            private=private,
            revision=revision,
            commit_message=commit_message or f"Add {type(self).__name__}",
        )
