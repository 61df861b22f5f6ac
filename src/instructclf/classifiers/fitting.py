"""Checked rows → a labeller: the steps of ``fit``, which all classifiers take in this order.

The steps read the constructor parameters of an estimator and change nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from instructclf.calibration import get_calibrator, no_calibration
from instructclf.classifiers.label_scores import score_visibly
from instructclf.classifiers.labellers import Labeller, LabellerEnsemble
from instructclf.classifiers.labels import (
    UNORDERED,
    check_enough_classes,
    check_label_order,
    check_label_words,
    defined_classes,
    find_classes,
    order_labels,
    warn_of_numbers,
)
from instructclf.classifiers.options import ModelOptions, given_or_default
from instructclf.classifiers.questions import find_template, write_question
from instructclf.classifiers.shots import choose_shots
from instructclf.classifiers.weights import rows_that_count
from instructclf.engine.interfaces import Demonstrations, LabelScorer, LanguageModel, Question
from instructclf.engine.running.processes import current_processes
from instructclf.engine.running.progress import Progress, tell
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.sampling import ShotSampler, get_sampler

_Fitted = TypeVar("_Fitted")


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows that have been checked.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, sorted.
    texts : list of str
        The texts of the rows that count.
    codes : ndarray of shape (n_rows,)
        The position of each row's label in ``classes``.
    positions : ndarray of shape (n_rows,)
        The position of each row in the ``X`` of ``fit``.
    weights : ndarray of shape (n_rows,) or None
        How much each row counts. ``None`` for 1.
    label_words : tuple of tuple of str
        The answers of each label, the one that is stated first.
    strata : ndarray of shape (n_rows,) or None, default=None
        What samplers balance. ``None`` for the labels.
    """

    classes: NDArray[Any]
    texts: list[str]
    codes: NDArray[np.intp]
    positions: NDArray[np.intp]
    weights: NDArray[np.float64] | None
    label_words: tuple[tuple[str, ...], ...]
    strata: NDArray[np.intp] | None = None

    @property
    def solved(self) -> Demonstrations:
        """The rows as solved examples, pairs of a text and its label words."""
        return tuple(
            (text, self.label_words[code][0])
            for text, code in zip(self.texts, self.codes, strict=True)
        )

    def take(self, chosen: NDArray[np.intp]) -> Rows:
        """Return some of the rows, in the order given."""
        return replace(
            self,
            texts=[self.texts[i] for i in chosen],
            codes=self.codes[chosen],
            positions=self.positions[chosen],
            weights=None if self.weights is None else self.weights[chosen],
            strata=None if self.strata is None else self.strata[chosen],
        )


class Learned(NamedTuple):
    """What a classifier has learned from its shots, and what scores with it."""

    question: Question
    scorer: LabelScorer
    adapter: Any = None
    training: Any = None


Learn = Callable[[LanguageModel, Question, Rows, np.random.RandomState], Learned]
"""What a classifier does with its shots: show them in the prompt, or tune an adapter on them."""


def read_rows(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Rows:
    """Check labels before texts, as scikit-learn does, and leave out rows without weight."""
    classes, texts, codes = _read_labelled_texts(estimator, X, y)
    positions, weights = rows_that_count(sample_weight, texts, codes, classes)
    label_words = check_label_words(classes, estimator.verbalizer)
    check_label_order(estimator.label_order, classes, estimator.n_seeds)
    if not (estimator.verbalizer or estimator.label_definitions or estimator.instruction):
        warn_of_numbers(classes)
    counted = [texts[i] for i in positions]
    return Rows(classes, counted, codes[positions], positions, weights, label_words)


def fit_labeller(estimator: Any, rows: Rows, model: LanguageModel, learn: Learn) -> Labeller:
    """Write the prompt, choose the shots, learn from them, and calibrate."""
    return _fit(estimator, rows, model, learn, random_generator(estimator.random_state))


def fit_ensemble(
    estimator: Any, rows: Rows, model: LanguageModel, learn: Learn
) -> LabellerEnsemble:
    """Do the same for several seeds."""
    return LabellerEnsemble(
        *fit_seeds(
            estimator,
            lambda rng, member: _fit(estimator, rows, model, learn, rng, member=member),
        )
    )


def fit_seeds(
    estimator: Any, fit: Callable[[np.random.RandomState, int], _Fitted]
) -> tuple[tuple[_Fitted, ...], tuple[int, ...]]:
    """Return what each seed has fitted, and the seeds. How many there are changes none of them."""
    rng = random_generator(estimator.random_state)
    seeds = rng.randint(np.iinfo(np.int32).max, size=estimator.n_seeds).tolist()
    members = [fit(np.random.RandomState(seed), member) for member, seed in enumerate(seeds)]
    return tuple(members), tuple(seeds)


def _fit(
    estimator: Any,
    rows: Rows,
    model: LanguageModel,
    learn: Learn,
    rng: np.random.RandomState,
    *,
    member: int = 0,
) -> Labeller:
    started = perf_counter()
    question = _write_question(estimator, rows, model, rng, member)
    sampler = get_sampler(estimator.sampler)
    fitted = learn_from_shots(estimator, rows, question, model, rng, sampler=sampler, learn=learn)
    learning = perf_counter() - started
    calibrated = calibrate_labeller(estimator, fitted, rows, model, rng)
    tell_of_calibrating(estimator, learning, perf_counter() - started)
    return calibrated


def learn_from_shots(
    estimator: Any,
    rows: Rows,
    question: Question,
    model: LanguageModel,
    rng: np.random.RandomState,
    *,
    sampler: ShotSampler,
    learn: Learn,
) -> Labeller:
    """Choose the shots and learn from them, without calibrating yet."""
    strata = rows.codes if rows.strata is None else rows.strata
    zero_shot = _ZeroShot(question, model, estimator.verbose)
    chosen, per_text = choose_shots(
        sampler, estimator.n_shots, rows.solved, strata, rng=rng, predict_proba=zero_shot
    )
    if per_text is not None:
        question = replace(question, demonstrations_for=per_text)
    learned = learn(model, question, rows.take(chosen), rng)
    return Labeller(
        rows.classes,
        learned.question,
        no_calibration(len(rows.classes)),
        rows.positions[chosen],
        learned.adapter,
        learned.training,
    ).keep_scorer(learned.scorer)


def show_shots(model: LanguageModel, question: Question, shots: Rows) -> Learned:
    """Write the shots into the prompt, unless each text gets shots of its own."""
    if question.demonstrations_for is None:
        shown = replace(question, prompt=question.prompt.with_demonstrations(shots.solved))
        question = model.fit_demonstrations(shown, shots.texts)
        return Learned(question, model.label_scorer(question))
    scorer = model.label_scorer(question)
    scorer.fill_prompt(shots.texts[0])  # shots that do not fit are an error now, not in predict
    return Learned(question, scorer)


def calibrate_labeller(
    estimator: Any,
    labeller: Labeller,
    rows: Rows,
    model: LanguageModel,
    rng: np.random.RandomState,
) -> Labeller:
    """Return a labeller with the calibration that its estimator asks for."""
    scorer = evidence_scorer(labeller, model)
    evidence = Evidence(labeller, rows, scorer, verbose=estimator.verbose)
    calibration = get_calibrator(estimator.calibration).calibrate(evidence, rng)
    scorer = labeller.scorer(lambda: model)
    return replace(labeller, calibration=calibration).keep_scorer(scorer)


def evidence_scorer(labeller: Labeller, model: LanguageModel) -> LabelScorer:
    """Return what scores labelled rows, none of which is a shot of its own."""
    question, per_text = labeller.question, labeller.shots_per_text
    if per_text is None:
        return labeller.scorer(lambda: model)
    return model.label_scorer(replace(question, demonstrations_for=per_text.left_out))


def tell_of_calibrating(estimator: Any, learning: float, seconds: float) -> None:
    """Say how long a fit took to calibrate, if it did."""
    if estimator.calibration is not None:
        said = f"Calibrating took {seconds - learning:.1f} of the {seconds:.1f} seconds of fit"
        tell(said, verbose=estimator.verbose)


def random_generator(random_state: Any) -> np.random.RandomState:
    """Return a generator that draws the same numbers in each process of a job."""
    generator = check_random_state(random_state)
    if isinstance(random_state, Integral):
        return generator
    is_given = isinstance(random_state, np.random.RandomState)
    return current_processes().agree_on(generator, is_given=is_given)


def _read_labelled_texts(
    estimator: Any, X: Any, y: Any
) -> tuple[NDArray[Any], list[str], NDArray[np.intp]]:
    definitions, n_shots = estimator.label_definitions, estimator.n_shots
    if X is None and y is None and n_shots == 0 and definitions:
        classes = defined_classes(definitions)
        check_enough_classes(classes)
        return classes, [], np.empty(0, dtype=np.intp)
    if y is None and n_shots == 0:
        msg = (
            "This estimator requires y to be passed, but the target y is None. Without shots, "
            "labels can also come from label_definitions, a sentence for each label: set it "
            "and leave out both X and y."
        )
        raise InvalidLabelsError(msg)
    classes, codes = find_classes(y, definitions)
    texts = check_texts(X)
    check_same_length(texts, codes)
    current_processes().check_alike([texts, codes.tolist()], "rows")
    return classes, texts, codes


def _write_question(
    estimator: Any, rows: Rows, model: LanguageModel, rng: np.random.RandomState, member: int
) -> Question:
    return write_question(
        model,
        find_template(estimator.template),
        task=estimator.instruction,
        labels=rows.classes.tolist(),
        label_words=rows.label_words,
        definitions=estimator.label_definitions,
        max_length=given_or_default(estimator.model_options, ModelOptions).max_length,
        order=order_labels(estimator.label_order, rows.classes, rng, member),
        is_unordered=estimator.label_order == UNORDERED,
    )


@dataclass(frozen=True, eq=False)
class _ZeroShot:
    """Probabilities of labels before there are shots, for samplers that ask the model."""

    question: Question
    model: LanguageModel
    verbose: int | bool

    @cached_property
    def _scorer(self) -> LabelScorer:
        return self.model.label_scorer(self.question)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        scores = score_visibly(
            self._scorer, texts, "Choosing shots", relative=True, verbose=self.verbose
        )
        return np.exp(no_calibration(scores.shape[1]).log_probabilities(scores))


class Evidence:
    """What a calibrator may look at. See `instructclf.calibration.Evidence`."""

    def __init__(
        self,
        labeller: Labeller,
        rows: Rows,
        scorer: LabelScorer,
        *,
        verbose: int | bool,
        what: str = "This classifier",
    ) -> None:
        self.what = what
        self._scorer = scorer
        self._n_demonstrations = len(labeller.prompt.demonstrations)
        self._verbose = verbose
        self.texts = rows.texts
        self.codes = rows.codes
        self.classes = rows.classes
        self.n_classes = len(rows.classes)
        # Where each text has shots of its own, a row is scored as if it were not among the rows,
        # so no row counts as a shot.
        shots = labeller.shots if labeller.shots_per_text is None else []
        self.shots = np.searchsorted(rows.positions, shots).astype(np.intp)

    def score(self, texts: Sequence[str], *, relative: bool = False) -> NDArray[np.float64]:
        """Score texts, with a progress bar if the estimator is verbose."""
        return score_visibly(
            self._scorer, texts, "Calibrating", relative=relative, verbose=self._verbose
        )

    def score_shots(self, *, relative: bool = False) -> NDArray[np.float64] | None:
        """Score each shot after a prompt of the others. Tuned without it would take a fit each."""
        if not self._n_demonstrations:
            return None
        if not self._verbose:
            return self._scorer.score_demonstrations(relative=relative)
        with Progress("Calibrating", self._n_demonstrations, verbose=self._verbose) as progress:
            return self._scorer.score_demonstrations(progress, relative=relative)
