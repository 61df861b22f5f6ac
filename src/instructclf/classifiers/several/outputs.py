"""Several questions about one text: each is a branch of answers after the same prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from instructclf.calibration import Calibration, Calibrator
from instructclf.calibration.named import get_calibrator
from instructclf.classifiers.labels import check_label_words, find_classes
from instructclf.classifiers.options import ModelOptions
from instructclf.classifiers.parameters import CLASSIFIER_CONSTRAINTS, documented
from instructclf.classifiers.questions import find_template, write_question
from instructclf.classifiers.several.rows import SharedEvidence, draw_shots
from instructclf.classifiers.sharing import SharedModelEstimator, observed
from instructclf.engine.interfaces import LabelScorer, LanguageModel, Question
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.prompts import PromptTemplate

_USED = ("model", "template", "instruction", "n_shots", "model_options", "random_state", "verbose")


@documented
class MultiOutputPromptClassifier(ClassifierMixin, SharedModelEstimator):
    """Answer several questions about a text, which the language model reads once.

    Each column of ``y`` is a question. The prompt states all of them, and shows the shots with all
    their answers, one a line. The answers ``question: label`` of all questions are scored as
    continuations of the one prompt, and the probabilities of each question sum to 1. A column of 0
    and 1 is answered with "no" and "yes", so an indicator matrix gives several labels to a text.

    Parameters
    ----------
    {model}
    questions : list of str or None, default=None
        What the columns of ``y`` are called in the prompt. ``None`` takes the column names of a
        data frame, else "question 1", "question 2" and so on.
    {instruction}
    {template}
    n_shots : int or None, default=16
        How many rows are shown solved in the prompt. ``None`` shows all rows. Rows are drawn at
        random, those with the answers first that have been shown least.
    calibration : "auto", None or object with a calibrate method, default="auto"
        As in `PromptClassifier`, for each question by itself.
    {model_options}
    random_state : int, RandomState instance or None, default=None
        Decides which shots are drawn, and their order.
    {verbose}

    Attributes
    ----------
    classes_ : list of ndarray of shape (n_classes,)
        The labels of each question, sorted.
    shots_ : ndarray of shape (n_shots,)
        Which rows of ``X`` became shots, in the order of their use.
    calibrations_ : list of Calibration
        The calibration of each question.
    question_ : Question
        The prompt, and the answers of all questions.
    """

    _FITTED = "calibrations_"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{name: CLASSIFIER_CONSTRAINTS[name] for name in _USED if name in CLASSIFIER_CONSTRAINTS},
        "questions": ["array-like", None],
    }

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] | LanguageModel = "bundled",
        *,
        questions: Sequence[str] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = 16,
        calibration: str | Calibrator | None = "auto",
        model_options: ModelOptions | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.model = model
        self.questions = questions
        self.instruction = instruction
        self.template = template
        self.n_shots = n_shots
        self.calibration = calibration
        self.model_options = model_options
        self.random_state = random_state
        self.verbose = verbose

    @observed
    def fit(self, X: Any, y: Any) -> Self:
        """Choose the shots, write the prompt and calibrate each question.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        y : array-like of shape (n_texts, n_questions)
            A column of labels for each question.

        Returns
        -------
        MultiOutputPromptClassifier
            The fitted classifier.

        Raises
        ------
        InvalidLabelsError
            If ``y`` is not of two dimensions, a column has one label only, or ``questions`` does
            not name each column once.
        InvalidShotsError
            If there are fewer rows than shots.
        """
        self._validate_params()
        vars(self).pop("calibrations_", None)
        names, columns = self._read_columns(y)
        found = [find_classes(column, None) for column in columns]
        texts = check_texts(X)
        codes = np.column_stack([own for _, own in found])
        check_same_length(texts, codes)
        rng = check_random_state(self.random_state)
        self.classes_ = [classes for classes, _ in found]
        words = [_answer_words(classes) for classes in self.classes_]
        self.shots_ = draw_shots(codes, self.n_shots, rng)
        self.question_ = self._write(names, words, [texts[i] for i in self.shots_], codes)
        evidence = SharedEvidence(self._get_scorer(), texts, self.shots_)
        calibrator = get_calibrator(self.calibration)
        self.calibrations_: list[Calibration] = [
            calibrator.calibrate(evidence.of(part, classes, own), rng)
            for part, (classes, own) in zip(self._parts(), found, strict=True)
        ]
        return self

    def predict_log_proba(self, X: Any) -> list[NDArray[np.float64]]:
        """Return the log-probabilities of each question's labels, from one pass over the texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        list of ndarray of shape (n_texts, n_classes)
            One array a question, columns as in its ``classes_``.
        """
        check_is_fitted(self)
        scores = self._get_scorer().score(check_texts(X))
        return [
            calibration.log_probabilities(log_softmax(scores[:, part], axis=1))
            for part, calibration in zip(self._parts(), self.calibrations_, strict=True)
        ]

    def predict_proba(self, X: Any) -> list[NDArray[np.float64]]:
        """Return the probabilities of each question's labels.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        list of ndarray of shape (n_texts, n_classes)
            One array a question. Rows sum to 1.
        """
        return [np.exp(own) for own in self.predict_log_proba(X)]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each question.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_questions)
            The labels. Of dtype object where the columns are of different kinds.
        """
        scores = self.predict_log_proba(X)
        columns = [c[own.argmax(axis=1)] for c, own in zip(self.classes_, scores, strict=True)]
        kinds = {column.dtype.kind for column in columns}
        return np.column_stack([c if len(kinds) == 1 else c.astype(object) for c in columns])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of texts of which all questions are answered correctly.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        y : array-like of shape (n_texts, n_questions)
            The labels.
        sample_weight : array-like of shape (n_texts,), default=None
            How much each text counts.

        Returns
        -------
        float
            From 0 to 1, as `sklearn.multioutput.MultiOutputClassifier` returns it.
        """
        return float(
            np.average(np.all(self.predict(X) == np.asarray(y), axis=1), weights=sample_weight)
        )

    def get_prompt(self, text: str) -> str:
        """Return what the model reads for a text.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        str
            The prompt, with the text cut if the context is too short for it.
        """
        check_is_fitted(self)
        (checked,) = check_texts([text])
        filled = self._get_scorer().fill_prompt(checked)
        return filled.prompt.render(filled.text, "")

    def _read_columns(self, y: Any) -> tuple[list[str], list[Any]]:
        table = np.asarray(y)
        if table.ndim != 2:
            msg = (
                f"y must be of shape (n_texts, n_questions), a column for each question. Got shape "
                f"{table.shape}. For one question use PromptClassifier."
            )
            raise InvalidLabelsError(msg)
        n_questions = table.shape[1]
        given = self.questions if self.questions is not None else getattr(y, "columns", None)
        names = [f"question {i + 1}" for i in range(n_questions)] if given is None else list(given)
        if len(names) != n_questions or len(set(names)) != n_questions:
            msg = f"questions={names!r} must name each of the {n_questions} columns of y once."
            raise InvalidLabelsError(msg)
        return [str(name) for name in names], [_typed(column) for column in table.T]

    def _write(
        self,
        names: list[str],
        words: list[tuple[str, ...]],
        shots: list[str],
        codes: NDArray[np.intp],
    ) -> Question:
        stated = [f"{name}: {', '.join(own)}" for name, own in zip(names, words, strict=True)]
        task = self.instruction or "Answer each question about the input, one a line."
        model = self.open_model()
        branches = [[f"{n}: {word}" for word in own] for n, own in zip(names, words, strict=True)]
        question = write_question(
            model,
            find_template(self.template),
            task="\n".join([task, *stated]),
            labels=[],
            label_words=tuple((branch,) for own in branches for branch in own),
            definitions=None,
            max_length=self._find_options("model_options").max_length,
            order=(),
        )
        lines = [
            "\n".join(b[c] for b, c in zip(branches, codes[i], strict=True)) for i in self.shots_
        ]
        solved = tuple(zip(shots, lines, strict=True))
        shown = replace(question, prompt=question.prompt.with_demonstrations(solved))
        self._scorer = None
        return model.fit_demonstrations(shown, shots)

    def _parts(self) -> list[slice]:
        """Return which scores belong to each question."""
        ends = np.cumsum([len(classes) for classes in self.classes_]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def _get_scorer(self) -> LabelScorer:
        """Return what scores all questions, made again after unpickling."""
        scorer = vars(self).get("_scorer")
        if scorer is None:
            scorer = self._scorer = self.open_model().label_scorer(self.question_)
        return scorer

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in super().__getstate__().items() if name != "_scorer"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags


def _typed(column: NDArray[Any]) -> NDArray[Any]:
    """Return a column of a mixed table as an array of its own kind."""
    return np.array(column.tolist()) if column.dtype == object else column


def _answer_words(classes: NDArray[Any]) -> tuple[str, ...]:
    """Return the word of each label: "no" and "yes" for 0 and 1."""
    if classes.dtype.kind in "iub" and classes.tolist() == [0, 1]:
        return ("no", "yes")
    return tuple(answers[0] for answers in check_label_words(classes, None))
