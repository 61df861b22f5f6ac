"""Checked rows → a labeller: the steps of ``fit``, which all classifiers take in this order.

The steps read the constructor parameters of an estimator and change nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from instructclf.calibration import get_calibrator, no_calibration
from instructclf.classifiers.labellers import Labeller, LabellerEnsemble, score_visibly
from instructclf.classifiers.labels import (
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
from instructclf.classifiers.shots_per_text import ShotsPerText
from instructclf.classifiers.weights import rows_that_count
from instructclf.engine.interfaces import LabelScorer, LanguageModel, Question
from instructclf.engine.running.processes import current_processes
from instructclf.engine.running.progress import Progress, tell
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.sampling import PerInputSampler, get_sampler, select_shots


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
    """

    classes: NDArray[Any]
    texts: list[str]
    codes: NDArray[np.intp]
    positions: NDArray[np.intp]
    weights: NDArray[np.float64] | None
    label_words: tuple[tuple[str, ...], ...]

    def take(self, chosen: NDArray[np.intp]) -> Rows:
        """Return some of the rows, in the order given."""
        return replace(
            self,
            texts=[self.texts[i] for i in chosen],
            codes=self.codes[chosen],
            positions=self.positions[chosen],
            weights=None if self.weights is None else self.weights[chosen],
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
    """Do the same for several seeds, of which the first do not depend on how many there are."""
    rng = random_generator(estimator.random_state)
    seeds = rng.randint(np.iinfo(np.int32).max, size=estimator.n_seeds).tolist()
    members = [
        _fit(estimator, rows, model, learn, np.random.RandomState(seed), member=member)
        for member, seed in enumerate(seeds)
    ]
    return LabellerEnsemble(tuple(members), tuple(seeds))


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
    chosen, per_text = _choose_shots(estimator, rows, question, model, rng)
    if per_text is not None:
        question = replace(question, demonstrations_for=per_text)
    learned = learn(model, question, rows.take(chosen), rng)
    fitted = Labeller(
        rows.classes,
        learned.question,
        no_calibration(len(rows.classes)),
        rows.positions[chosen],
        learned.adapter,
        learned.training,
    ).keep_scorer(learned.scorer)
    learning = perf_counter() - started
    calibrated = calibrate_labeller(estimator, fitted, rows, model, rng)
    if estimator.calibration is not None:
        seconds = perf_counter() - started
        said = f"Calibrating took {seconds - learning:.1f} of the {seconds:.1f} seconds of fit"
        tell(said, verbose=estimator.verbose)
    return calibrated


def calibrate_labeller(
    estimator: Any,
    labeller: Labeller,
    rows: Rows,
    model: LanguageModel,
    rng: np.random.RandomState,
) -> Labeller:
    """Return a labeller with the calibration that its estimator asks for."""
    evidence = _Evidence(labeller, rows, model, verbose=estimator.verbose)
    calibration = get_calibrator(estimator.calibration).calibrate(evidence, rng)
    scorer = labeller.scorer(lambda: model)
    return replace(labeller, calibration=calibration).keep_scorer(scorer)


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
    )


def _choose_shots(
    estimator: Any,
    rows: Rows,
    question: Question,
    model: LanguageModel,
    rng: np.random.RandomState,
) -> tuple[NDArray[np.intp], ShotsPerText | None]:
    """Return the rows that become shots, and what chooses among them for each text, if anything."""
    if estimator.n_shots is None:
        return np.arange(len(rows.texts), dtype=np.intp), None
    if estimator.n_shots == 0:
        return np.empty(0, dtype=np.intp), None
    sampler = get_sampler(estimator.sampler)
    seed = int(rng.randint(np.iinfo(np.int32).max))
    if isinstance(sampler, PerInputSampler):
        solved = solve(rows.texts, rows.codes, rows.label_words)
        per_text = ShotsPerText(sampler, solved, rows.codes, estimator.n_shots, seed)
        per_text.rows(rows.texts[:1])  # too few rows or shots are an error in fit, not in predict
        return np.arange(len(rows.texts), dtype=np.intp), per_text
    chosen = select_shots(
        sampler,
        rows.texts,
        rows.codes,
        estimator.n_shots,
        random_state=seed,
        predict_proba=_ZeroShot(question, model, estimator.verbose),
    )
    return chosen, None


def solve(
    texts: Sequence[str], codes: NDArray[np.intp], label_words: Sequence[tuple[str, ...]]
) -> tuple[tuple[str, str], ...]:
    """Return rows as solved examples, pairs of a text and its label words."""
    return tuple((text, label_words[code][0]) for text, code in zip(texts, codes, strict=True))


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
        scores = score_visibly(self._scorer, texts, "Choosing shots", verbose=self.verbose)
        return np.exp(no_calibration(scores.shape[1]).log_probabilities(scores))


class _Evidence:
    """What a calibrator may look at. See `instructclf.calibration.Evidence`."""

    def __init__(
        self, labeller: Labeller, rows: Rows, model: LanguageModel, *, verbose: int | bool
    ) -> None:
        self._labeller = labeller
        self._model = model
        self._verbose = verbose
        self.texts = rows.texts
        self.codes = rows.codes
        self.classes = rows.classes
        self.n_classes = len(rows.classes)
        # Where each text has shots of its own, a row is scored as if it were not among the rows,
        # so no row counts as a shot.
        shots = labeller.shots if labeller.shots_per_text is None else []
        self.shots = np.searchsorted(rows.positions, shots).astype(np.intp)

    @cached_property
    def _scorer(self) -> LabelScorer:
        question, per_text = self._labeller.question, self._labeller.shots_per_text
        if per_text is None:
            return self._labeller.scorer(lambda: self._model)
        return self._model.label_scorer(replace(question, demonstrations_for=per_text.left_out))

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return score_visibly(self._scorer, texts, "Calibrating", verbose=self._verbose)

    def score_shots(self) -> NDArray[np.float64] | None:
        """Score each shot after a prompt of the others. Tuned without it would take a fit each."""
        shown = self._labeller.prompt.demonstrations
        if not shown:
            return None
        if not self._verbose:
            return self._scorer.score_demonstrations()
        with Progress("Calibrating", len(shown), verbose=self._verbose) as progress:
            return self._scorer.score_demonstrations(progress)
