"""What the two estimators share: the scaffold of ``fit``, and the scores of labels.

A subclass supplies one thing, ``_make_scorer``, which turns the fitted prompt into something that
scores labels. Everything public is derived from the matrix of label log-likelihoods.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.calibration import (
    BatchCalibration,
    Calibration,
    fit_calibration,
    fit_prior,
    no_calibration,
)
from instructclf.classifiers.calibration_texts import (
    CONTENT_FREE_TEXTS,
    draw_domain_texts,
    held_out_rows,
)
from instructclf.classifiers.labels import (
    check_enough_classes,
    check_label_words,
    check_labels,
    check_same_length,
    defined_classes,
)
from instructclf.classifiers.predicting import LabelPredictor
from instructclf.classifiers.saving import save_classifier
from instructclf.classifiers.seeding import LabelScores, average_scores, spawn_members
from instructclf.classifiers.sharing import SharedModelEstimator
from instructclf.classifiers.showing.methods import PromptShowing
from instructclf.classifiers.texts import check_texts
from instructclf.classifiers.weights import rows_that_count
from instructclf.engine.chat import chat_template
from instructclf.engine.demonstrations import fit_demonstrations
from instructclf.engine.encoding import PromptEncoder
from instructclf.engine.loading import BaseModel
from instructclf.engine.progress import Progress
from instructclf.engine.registry import get_base_model
from instructclf.engine.scoring import LabelScorer
from instructclf.engine.tokenising import control_strings, find_breaker
from instructclf.engine.verbalizers import Verbalizer
from instructclf.engine.views import shared_view
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError, PromptTooLongError
from instructclf.prompts import (
    CHAT,
    Prompt,
    PromptTemplate,
    define_labels,
    get_template,
    write_instruction,
)
from instructclf.sampling import PerInputSampler, ShotSampler, get_sampler, select_shots


class PromptedClassifier(LabelPredictor, PromptShowing, SharedModelEstimator, metaclass=ABCMeta):
    """Base of classifiers that score label words after a prompt.

    It is responsible for

    - checking what comes in, choosing shots, writing the prompt and calibrating scores in ``fit``;
    - scoring labels, ``_score``, from which its base derives every prediction;
    - fitting one classifier for each of several seeds, and averaging what they say.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, PathLike, tuple],
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
        "max_batch_tokens": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "device": [str, None],
        "dtype": [str, None],
        "quantization": [StrOptions({"4bit"}), None],
        "random_state": ["random_state"],
        "verbose": ["verbose", Interval(Real, 0, None, closed="left")],
    }

    model: str | PathLike[str] | tuple[Any, Any]
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
    max_batch_tokens: int | str | None
    device: str | None
    dtype: str | None
    quantization: str | None
    random_state: int | np.random.RandomState | None
    verbose: int | bool

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

    @abstractmethod
    def _leave_one_out_scores(self, scorer: LabelScorer) -> NDArray[np.float64] | None:
        """Score each shot as if it had not been one, or return ``None`` where that is too dear."""

    def _check_per_input(self, sampler: PerInputSampler) -> None:
        """Raise unless this estimator can use a sampler that chooses for each text."""
        msg = (
            f"{type(sampler).__name__} chooses other shots for each text, and "
            f"{type(self).__name__} learns from the same shots for all. Use another sampler, such "
            "as 'facility_location' or 'kmeans', or PromptClassifier."
        )
        raise InvalidShotsError(msg)

    # fit

    def _fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take the steps that both estimators take."""
        self._validate_params()
        self._unfit()
        if self.n_seeds > 1:
            return self._fit_members(X, y, sample_weight)
        template = None if self.template == CHAT else get_template(self.template)
        sampler = get_sampler(self.sampler)
        if self.n_shots and isinstance(sampler, PerInputSampler):
            self._check_per_input(sampler)
        texts, codes = self._check_rows(X, y)
        rows, weights = rows_that_count(sample_weight, texts, codes, self.classes_)
        texts, codes = [texts[i] for i in rows], codes[rows]
        self.label_words_ = check_label_words(self.classes_, self.verbalizer)
        rng = check_random_state(self.random_state)
        base = self._get_base()
        self.max_length_ = self._resolve_max_length(base)
        self.prompt_ = self._write_prompt(
            base, template if template is not None else chat_template(base.tokenizer), rng
        )
        chosen = self._choose_shots(texts, codes, sampler, rng)
        self.shots_ = rows[chosen]
        shots = [texts[i] for i in chosen]
        weights = None if weights is None else weights[chosen]
        self._scorer = self._fit_scorer(base, shots, codes[chosen], rng, weights)
        self.calibration_ = self._calibrate(texts, codes, chosen, rng)
        return self

    def _fit_members(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Fit a classifier for each seed. What is the same for all of them becomes this one's."""
        self._check_seeds()
        rng = check_random_state(self.random_state)
        members = spawn_members(self, self.n_seeds, rng)
        for member in members:
            member._fit(X, y, sample_weight)  # noqa: SLF001
        for name in ("classes_", "label_words_", "max_length_"):
            setattr(self, name, getattr(members[0], name))
        self.shots_ = np.unique(np.concatenate([member.shots_ for member in members]))
        self.estimators_ = members
        return self

    @property
    def _averages_predictions(self) -> bool:
        """Whether this has nothing to predict with but its members."""
        return hasattr(self, "estimators_")

    def _check_one_prompt(self) -> None:
        """Raise if there are as many prompts as seeds."""
        if self._averages_predictions:
            msg = (
                f"Each of the n_seeds={self.n_seeds} classifiers has a prompt of its own. Ask one "
                "of them, such as estimators_[0]."
            )
            raise AttributeError(msg)

    def _check_seeds(self) -> None:
        """Raise if several seeds would make the same classifier, or none."""

    def _check_rows(self, X: Any, y: Any) -> tuple[list[str], NDArray[np.intp]]:
        """Check labels before texts, as scikit-learn does, and set the classes."""
        if X is None and y is None and self.n_shots == 0 and self.label_definitions:
            self.classes_ = defined_classes(self.label_definitions)
            check_enough_classes(self.classes_)
            return [], np.empty(0, dtype=np.intp)
        self.classes_, codes = check_labels(y, self.label_definitions)
        texts = check_texts(X)
        check_same_length(texts, codes)
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

    def _resolve_max_length(self, base: BaseModel) -> int | None:
        context = base.context_length
        if self.max_length is None:
            return context
        if context is not None and self.max_length > context:
            msg = (
                f"max_length={self.max_length} is more than the {context} tokens that the model "
                f"{base.name!r} was made for. Set max_length to {context} or less, or to None."
            )
            raise PromptTooLongError(msg)
        return self.max_length

    def _write_prompt(
        self, base: BaseModel, template: PromptTemplate, rng: np.random.RandomState
    ) -> Prompt:
        labels = self.classes_.tolist()
        order = range(len(labels))
        if self.label_order == "random":
            order = rng.permutation(len(labels)).tolist()
        definitions = None
        if self.label_definitions is not None:
            definitions = [self.label_definitions[labels[i]] for i in order]
        words = [self.label_words_[i][0] for i in order]
        prompt = Prompt(
            template,
            write_instruction(self.instruction, words, definitions),
            control_strings=control_strings(base.tokenizer),
            definitions=define_labels(words, definitions) if definitions else "",
            breaker=find_breaker(base.tokenizer, template.markers),
        )
        for words in Verbalizer(self.label_words_).answers:
            if prompt.as_data(words) != words:
                msg = (
                    f"The label words {words!r} contain a marker of the template or a special "
                    "token of the model. Give other words in 'verbalizer'."
                )
                raise InvalidLabelsError(msg)
        return prompt

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

    def _token_budget(self) -> int | None:
        budget = self.max_batch_tokens
        return int(budget) if isinstance(budget, Integral) else None

    def _make_encoder(self, base: BaseModel) -> PromptEncoder:
        return PromptEncoder(base.tokenizer, self.prompt_, self.label_words_, self.max_length_)

    # Calibration

    def _calibrate(
        self,
        texts: list[str],
        codes: NDArray[np.intp],
        shots: NDArray[np.intp],
        rng: np.random.RandomState,
    ) -> Calibration | BatchCalibration:
        match self.calibration:
            case "contextual":
                return fit_prior(self._scorer.score(CONTENT_FREE_TEXTS))
            case "domain":
                return fit_prior(self._scorer.score(draw_domain_texts(texts, rng)))
            case "batch":
                return BatchCalibration()
            case "auto":
                return self._calibrate_by_rows(texts, codes, shots, rng)
            case _:
                return no_calibration(len(self.classes_))

    def _calibrate_by_rows(
        self,
        texts: list[str],
        codes: NDArray[np.intp],
        shots: NDArray[np.intp],
        rng: np.random.RandomState,
    ) -> Calibration:
        rows = held_out_rows(texts, codes, shots, rng)
        if len(rows):
            scores = self._scorer.score([texts[i] for i in rows])
            return fit_calibration(scores, codes[rows])
        scores = self._leave_one_out_scores(self._scorer)
        if scores is None:
            return no_calibration(len(self.classes_))
        return fit_calibration(scores, codes[shots])

    # Scoring labels

    def _get_scorer(self) -> LabelScorer:
        """Return the scorer of ``fit``, or build it again after unpickling."""
        self._check_one_prompt()
        if getattr(self, "_scorer", None) is None:
            self._scorer = self._rebuild_scorer(self._get_base())
        return self._scorer

    def _get_base(self) -> BaseModel:
        """Return the base model, and hold it, so that the registry finds it while this lives."""
        self._base = get_base_model(
            self.model, device=self.device, dtype=self.dtype, quantization=self.quantization
        )
        return self._base

    def _score(self, X: Any) -> LabelScores:
        check_is_fitted(self)
        if self._averages_predictions:
            members = self.estimators_
            return average_scores([member._score(X) for member in members])  # noqa: SLF001
        texts = check_texts(X)
        with Progress("Scoring", len(dict.fromkeys(texts)), verbose=self.verbose) as progress:
            scores = self._get_scorer().score(texts, progress)
        return LabelScores(scores, self.calibration_.log_probabilities(scores))

    def save(
        self, folder: str | PathLike[str], *, scores: Mapping[str, float] | None = None
    ) -> None:
        """Write the fitted classifier into a folder, which `instructclf.load` reads.

        JSON and safetensors only, so that loading runs no code. The base model does not go along:
        its name does, with checksums that tell it from any other. The folder also holds a model
        card, and a tuned classifier's adapter as PEFT stores adapters. It is written beside its
        place and then exchanged, so that a crash leaves the old one or the new one whole.

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

        Notes
        -----
        The solved examples of a prompt are rows of the training data, and are saved as text.
        """
        save_classifier(self, folder, scores)

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

        Raises
        ------
        AttributeError
            If several seeds make several prompts: ask one of ``estimators_``.
        """
        check_is_fitted(self)
        (checked,) = check_texts([text])
        words = "" if label is None else self._words_of(label)
        encoder = self._get_scorer().encoder
        return encoder.prompt_for(checked).render(encoder.shorten(checked), words)

    def _words_of(self, label: Any) -> str:
        for known, answers in zip(self.classes_.tolist(), self.label_words_, strict=True):
            if known == label:
                return answers[0]
        msg = f"There is no label {label!r}. The classes are {self.classes_.tolist()!r}."
        raise InvalidLabelsError(msg)
