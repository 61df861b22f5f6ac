"""What both classifiers of one label a text share of scikit-learn's interface.

``fit`` builds a labeller, and every other method reads it. A subclass decides what to learn from
the shots, in ``_learn``.
"""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.fitting import Learned, Rows, fit_ensemble, fit_labeller, read_rows
from instructclf.classifiers.label_scores import (
    LabelScores,
    choose_above_mass,
    choose_labels,
    mass_of,
)
from instructclf.classifiers.labellers import Labeller, LabellerEnsemble
from instructclf.classifiers.labels import order_labels, words_of
from instructclf.classifiers.parameters import CLASSIFIER_CONSTRAINTS
from instructclf.classifiers.saving.saved import FittedClassifier
from instructclf.classifiers.showing.prompt import ShownPrompt, look_at_prompt
from instructclf.classifiers.showing.tokens import ShownTokens, look_at_tokens
from instructclf.engine.interfaces import LabelScorer, LanguageModel, Question
from instructclf.engine.running.processes import sharing_work
from instructclf.inputs.texts import check_texts


def make_members(classifier: Any) -> list[Any]:
    """Return the fitted classifier of each seed, over the labellers of the ensemble.

    Parameters
    ----------
    classifier : estimator
        A classifier that was fitted with ``n_seeds`` above 1.

    Returns
    -------
    list of estimator
        One entry a seed.

    Raises
    ------
    AttributeError
        If it was fitted with one seed, or not at all.
    """
    ensemble = classifier.labeller_
    if not isinstance(ensemble, LabellerEnsemble):
        msg = "estimators_ exists only with n_seeds above 1."
        raise AttributeError(msg)  # noqa: TRY004  (so that hasattr says no)
    members = []
    for number, (labeller, seed) in enumerate(zip(ensemble.members, ensemble.seeds, strict=True)):
        member: Any = clone(classifier)
        member.set_params(n_seeds=1, random_state=seed)
        if member.label_order == "cyclic":  # whose place among the seeds a member does not know
            stated = order_labels("cyclic", labeller.classes, np.random.RandomState(seed), number)
            member.set_params(label_order=labeller.classes[stated].tolist())
        vars(member).pop("_skl_callbacks", None)  # they follow the fit of all members, as one
        vars(member).update({name: vars(classifier).get(name) for name in ("_model",)})
        member.labeller_ = labeller
        members.append(member)
    return members


class PromptedClassifier(FittedClassifier):
    """Base of classifiers that score label words after a prompt."""

    _parameter_constraints: ClassVar[dict[str, Any]] = CLASSIFIER_CONSTRAINTS

    n_seeds: int
    labeller_: Labeller | LabellerEnsemble

    # What a fit has learned. Unfitted, these raise AttributeError, as scikit-learn expects.
    classes_ = property(lambda self: self.labeller_.classes)
    label_words_ = property(lambda self: self.labeller_.label_words)
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

    def _make_labeller(self, X: Any, y: Any, sample_weight: Any) -> Labeller | LabellerEnsemble:
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
        return self._ask_labeller("score", X)

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
        return self._ask_labeller("log_probabilities", X)

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
        if min_label_mass is not None:
            scores = self.label_scores(X)  # which checks that there are classes
            return choose_above_mass(self.classes_, scores, min_label_mass)
        log_probabilities = self.predict_log_proba(X)
        return choose_labels(self.classes_, log_probabilities)

    def _ask_labeller(self, method: str, X: Any) -> Any:
        check_is_fitted(self)
        ask = getattr(self.labeller_, method)
        with sharing_work(self._find_options("model_options").distributed):
            return ask(check_texts(X), self._fitted_model, verbose=self.verbose)

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
        scorer, checked = self._ask_about(text)
        words = "" if label is None else words_of(label, self.classes_, self.label_words_)
        return scorer, checked, words
