"""What the two estimators share: the scaffold of ``fit``, and the scores of labels.

A subclass supplies one thing, ``_make_scorer``, which turns the fitted prompt into something that
scores labels. Everything public is derived from the matrix of label log-likelihoods.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.calibrating import ScoreCalibration
from instructclf.classifiers.calibration import no_calibration
from instructclf.classifiers.keeping import ClassifierKeeping
from instructclf.classifiers.labels import (
    check_enough_classes,
    check_label_words,
    defined_classes,
    find_classes,
    warn_of_numbers,
)
from instructclf.classifiers.observing import observed
from instructclf.classifiers.predicting import LabelPredictor
from instructclf.classifiers.seeding import LabelScores, SeedAveraging, average_scores
from instructclf.classifiers.sharing import MODEL_CONSTRAINTS, SharedModelEstimator
from instructclf.classifiers.showing.card import CardShowing
from instructclf.classifiers.showing.methods import PromptShowing
from instructclf.classifiers.weights import rows_that_count
from instructclf.classifiers.writing import find_template, resolve_max_length, write_prompt
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.models.views import shared_view
from instructclf.engine.running.processes import current_processes, sharing_work
from instructclf.engine.running.progress import Progress
from instructclf.engine.scoring.label_scoring import LabelScorer
from instructclf.engine.tokens.demonstrations import fit_demonstrations
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError
from instructclf.inputs.labels import check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.prompts import Prompt, PromptTemplate
from instructclf.sampling import PerInputSampler, ShotSampler, get_sampler, select_shots


class PromptedClassifier(
    LabelPredictor,
    SeedAveraging,
    ScoreCalibration,
    CardShowing,
    ClassifierKeeping,
    SharedModelEstimator,
    PromptShowing,
    metaclass=ABCMeta,
):
    """Base of classifiers that score label words after a prompt.

    It is responsible for

    - the steps of ``fit``, in their order: checking what comes in, choosing shots, writing the
      prompt, and what a subclass and its other bases do then;
    - scoring labels, ``_score``, from which its base derives every prediction.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MODEL_CONSTRAINTS,
        "label_definitions": [dict, None],
        "verbalizer": [dict, None],
        "instruction": [str, None],
        "template": [str, PromptTemplate],
        "n_shots": [Interval(Integral, 0, None, closed="left"), None],
        "sampler": [str, ShotSampler],
        "label_order": [StrOptions({"sorted", "random"})],
        "n_seeds": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"auto", "contextual", "domain", "batch"}), None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "distributed": [StrOptions({"auto"}), None],
        "random_state": ["random_state"],
        "verbose": ["verbose", Interval(Real, 0, None, closed="left")],
    }

    label_definitions: dict[Any, str] | None
    verbalizer: dict[Any, str | list[str]] | None
    instruction: str | None
    template: str | PromptTemplate
    n_shots: int | None
    sampler: str | ShotSampler
    label_order: str
    n_seeds: int
    calibration: str | None
    max_length: int | None
    distributed: str | None
    random_state: int | np.random.RandomState | None
    verbose: int | bool

    _LEARNED_LAST = ("calibration_", "estimators_")

    # What a subclass decides

    @abstractmethod
    def _fit_scorer(
        self,
        base: BaseModel,
        shots: list[str],
        codes: NDArray[np.intp],
        rng: np.random.RandomState,
        weights: NDArray[np.float64] | None,
    ) -> LabelScorer:
        """Learn from the shots what this estimator learns, and return what scores with it."""

    @abstractmethod
    def _rebuild_scorer(self, base: BaseModel) -> LabelScorer:
        """Return what scores, from fitted attributes alone."""

    def _check_per_input(self, sampler: PerInputSampler) -> None:
        """Raise unless this estimator can use a sampler that chooses for each text."""
        msg = (
            f"{type(sampler).__name__} chooses other shots for each text, and "
            f"{type(self).__name__} learns from the same shots for all. Use another sampler, such "
            "as 'facility_location' or 'kmeans', or PromptClassifier."
        )
        raise InvalidShotsError(msg)

    # fit

    @observed
    def _fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit, together with the other processes of the job where there are any."""
        self._validate_params()
        self._unfit()
        with sharing_work(self.distributed):
            return self._fit_steps(X, y, sample_weight)

    def _fit_steps(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Take the steps that both estimators take."""
        if self.n_seeds > 1:
            return self._fit_members(X, y, sample_weight)
        template = find_template(self.template)
        sampler = get_sampler(self.sampler)
        if self.n_shots and isinstance(sampler, PerInputSampler):
            self._check_per_input(sampler)
        texts, codes = self._check_rows(X, y)
        rows, weights = rows_that_count(sample_weight, texts, codes, self.classes_)
        texts, codes = [texts[i] for i in rows], codes[rows]
        self.label_words_ = check_label_words(self.classes_, self.verbalizer)
        if not (self.verbalizer or self.label_definitions or self.instruction):
            warn_of_numbers(self.classes_)
        rng = self._random_generator()
        base = self._get_base()
        self.max_length_ = resolve_max_length(base, self.max_length)
        self.prompt_ = self._write_prompt(base, template, rng)
        chosen = self._choose_shots(texts, codes, sampler, rng)
        self.shots_ = rows[chosen]
        shots = [texts[i] for i in chosen]
        weights = None if weights is None else weights[chosen]
        self._scorer = self._fit_scorer(base, shots, codes[chosen], rng, weights)
        self.calibration_ = self._calibrate(texts, codes, chosen, rng)
        return self

    def _check_rows(self, X: Any, y: Any) -> tuple[list[str], NDArray[np.intp]]:
        """Check labels before texts, as scikit-learn does, and set the classes."""
        if X is None and y is None and self.n_shots == 0 and self.label_definitions:
            self.classes_ = defined_classes(self.label_definitions)
            check_enough_classes(self.classes_)
            return [], np.empty(0, dtype=np.intp)
        if y is None and self.n_shots == 0:
            msg = (
                "This estimator requires y to be passed, but the target y is None. Without shots, "
                "labels can also come from label_definitions, a sentence for each label: set it "
                "and leave out both X and y."
            )
            raise InvalidLabelsError(msg)
        self.classes_, codes = find_classes(y, self.label_definitions)
        texts = check_texts(X)
        check_same_length(texts, codes)
        current_processes().check_alike([texts, codes.tolist()], "rows")
        return texts, codes

    def _choose_shots(
        self,
        texts: list[str],
        codes: NDArray[np.intp],
        sampler: ShotSampler,
        rng: np.random.RandomState,
    ) -> NDArray[np.intp]:
        if self.n_shots is None:
            return np.arange(len(texts), dtype=np.intp)
        if self.n_shots == 0:
            return np.empty(0, dtype=np.intp)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        return select_shots(
            sampler,
            texts,
            codes,
            self.n_shots,
            random_state=seed,
            predict_proba=self._zero_shot_probabilities(),
        )

    def _zero_shot_probabilities(self) -> Callable[[list[str]], NDArray[np.float64]]:
        """Return what says how probable the labels are before there are shots."""
        base = self._base
        scorer: LabelScorer | None = None

        def predict_proba(texts: list[str]) -> NDArray[np.float64]:
            nonlocal scorer
            if scorer is None:
                scorer = self._make_scorer(base, shared_view(base.model))
            scores = scorer.score(texts)
            return np.exp(no_calibration(len(self.classes_)).log_probabilities(scores))

        return predict_proba

    def _write_prompt(
        self, base: BaseModel, template: PromptTemplate | None, rng: np.random.RandomState
    ) -> Prompt:
        labels = self.classes_.tolist()
        defined = self.label_definitions
        n_labels = len(labels)
        return write_prompt(
            base,
            template,
            task=self.instruction,
            label_words=self.label_words_,
            definitions=None if defined is None else [defined[label] for label in labels],
            order=rng.permutation(n_labels).tolist()
            if self.label_order == "random"
            else range(n_labels),
        )

    def _add_demonstrations(
        self, base: BaseModel, shots: Sequence[str], codes: NDArray[np.intp]
    ) -> None:
        """Put solved examples into the prompt, cut where the context is too short for them."""
        self.prompt_ = fit_demonstrations(
            base.tokenizer,
            self.prompt_.with_demonstrations(self._solve(shots, codes)),
            self.label_words_,
            max_length=self.max_length_,
            texts=shots,
        )

    def _solve(self, texts: Sequence[str], codes: NDArray[np.intp]) -> tuple[tuple[str, str], ...]:
        """Return rows as solved examples, pairs of a text and its label words."""
        return tuple(zip(texts, (self.label_words_[code][0] for code in codes), strict=True))

    def _make_scorer(self, base: BaseModel, model: Any) -> LabelScorer:
        """Return what scores labels after the fitted prompt, with this view of the base model."""
        return LabelScorer(
            model,
            self._make_encoder(base),
            max_batch_tokens=self._token_budget(),
        )

    def _make_encoder(self, base: BaseModel) -> PromptEncoder:
        return PromptEncoder(base.tokenizer, self.prompt_, self.label_words_, self.max_length_)

    def _stated_labels(self) -> list[Any] | None:
        if self.__sklearn_is_fitted__():
            return self.classes_.tolist()
        defined = self.label_definitions
        return None if defined is None else defined_classes(defined).tolist()

    # Scoring labels

    def _get_scorer(self) -> LabelScorer:
        """Return the scorer of ``fit``, or build it again after unpickling."""
        self._check_one_prompt()
        if getattr(self, "_scorer", None) is None:
            self._scorer = self._rebuild_scorer(self._get_base())
        return self._scorer

    def _score(self, X: Any) -> LabelScores:
        check_is_fitted(self)
        with sharing_work(self.distributed) as processes:
            if self._averages_predictions:
                members = self.estimators_
                return average_scores([member._score(X) for member in members])  # noqa: SLF001
            texts = check_texts(X)
            n_own = len([*dict.fromkeys(texts)][processes.own_rows])
            with Progress("Scoring", n_own, verbose=self.verbose) as progress:
                scores = self._get_scorer().score(texts, progress)
            return LabelScores(scores, self.calibration_.log_probabilities(scores))
