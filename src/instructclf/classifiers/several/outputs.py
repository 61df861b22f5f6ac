"""Several questions about one text, whose answers follow the same prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from instructclf.calibration import Calibrator
from instructclf.classifiers.label_scores import LabelScores
from instructclf.classifiers.labellers import JointEnsemble, JointLabeller
from instructclf.classifiers.options import ModelOptions
from instructclf.classifiers.parameters import CLASSIFIER_CONSTRAINTS, documented
from instructclf.classifiers.saving.saved import FittedClassifier
from instructclf.classifiers.several.answers import ask_alone, make_binarizer, side_by_side
from instructclf.classifiers.several.asked import read_questions
from instructclf.classifiers.several.fitting import fit_together
from instructclf.classifiers.several.shots import check_draws
from instructclf.engine.interfaces import LanguageModel
from instructclf.engine.running.processes import sharing_work
from instructclf.inputs.label_tables import read_label_table
from instructclf.inputs.labels import check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler


@documented
class MultiOutputPromptClassifier(FittedClassifier):
    """Answer several questions about a text, which the language model reads once.

    Each column of ``y`` is a question. The prompt states all of them, and shows the shots with all
    their answers, one a line: ``question: label``. The answers of each question are scored as
    continuations of this one prompt, whatever the answers to the others are, and their
    probabilities sum to 1.

    Columns of 0 and 1 are labels, of which a text has any number: an indicator matrix, or a list of
    labels for each text. Shots list those that are 1, or say "none", and the score of a label is
    how likely the list is to begin with it. A single such column, or one with ``verbalizer`` or a
    definition of 0, is a question that is answered with "no" and "yes".

    Parameters
    ----------
    {model}
    questions : array-like of shape (n_questions,) or None, default=None
        What the columns of ``y`` are called in the prompt; for lists of labels, all labels, in the
        order of the columns. Short names are faster. ``None`` takes the column names of a data
        frame, the sorted labels of lists, or "question 1", "question 2" and so on.
    label_definitions : dict or None, default=None
        What the labels of a question mean, ``{question: {label: one sentence}}``, or, for a column
        of 0 and 1, ``{question: one sentence}`` that says what 1 means. The prompt states it.
        The labels of a question that is defined are known without rows.
    verbalizer : dict or None, default=None
        The words that the model answers with, ``{question: {label: words}}``, as in
        `PromptClassifier`. ``None``, or a question left out, takes ``str(label)``. A column of 0
        and 1 that has words, such as ``{0: "no", 1: "yes"}``, is not listed.
    instruction : str or None, default=None
        The task in your words, after which the prompt lists the questions and their labels.
        ``None`` takes a sentence that fits any.
    {template}
    n_shots : int or None, default=16
        How many labelled rows the prompt shows, each with all its answers: ``0`` for none, ``None``
        for all. With many questions, fewer fit into the context.
    sampler : str or object with a select method, default="balanced"
        How shots are chosen among the rows. ``"balanced"`` draws rows at random, each time one with
        the answers that have been shown least. The others of `PromptClassifier` choose by the texts
        alone. ``"uncertainty"`` cannot be used, because it needs one question.
    n_seeds : int, default=1
        How many times shots are drawn, each with its own seed, as in `PromptClassifier`. Raise it
        to depend less on the draw; time and memory grow with it.
    calibration : "auto", None or object with a calibrate method, default="auto"
        As in `PromptClassifier`, for each question by itself, on rows that are scored once for all.
        With ``None``, the probability of a label in a list is that of coming first.
    thresholds : {"f1"} or None, default=None
        The probability from which a column of 0 and 1 is predicted as 1. ``"f1"`` learns the one
        with the best F1 for each column, on labelled rows that are not shots, or on shots that are
        left out of their own prompt; 0.5 with fewer than 4 rows of a label. Try it with rare labels
        and many rows. ``None`` predicts the more probable label. Probabilities stay the same.
    {model_options}
    random_state : int, RandomState instance or None, default=None
        Decides which shots are drawn, and their order.
    {verbose}

    Attributes
    ----------
    questions_ : ndarray of shape (n_questions,)
        What the columns of ``y`` and of predictions are called: for lists of labels, the labels, as
        in ``MultiLabelBinarizer.classes_``.
    classes_ : list of ndarray of shape (n_classes,)
        The labels of each question, sorted, as in ``MultiOutputClassifier.classes_``.
    label_words_ : list of tuple of tuple of str
        The answers for each label of each question. In a list, those for 0 are all other labels.
    label_binarizer_ : MultiLabelBinarizer
        If all columns are 0 and 1, its ``inverse_transform`` makes predictions lists of labels.
    estimators_ : list of PromptClassifier
        A classifier of each question, as in ``MultiOutputClassifier``. It asks that question alone,
        after the same prompt, and can show its prompt and tokens.
    shots_ : ndarray of shape (n_shots,)
        Which rows of ``X`` became shots, in the order of their use.
    {prompt_}
    {max_length_}
    calibrations_ : list of Calibration
        The calibration of each question.
    thresholds_ : list of (float or None)
        The threshold of each question, ``None`` without one.
    labeller_ : JointLabeller or JointEnsemble
        Everything that ``fit`` learned, as one frozen value. The other attributes read it.

    See Also
    --------
    PromptClassifier : Answers one question about a text.

    Notes
    -----
    Labels are stated in sorted order, without ``label_order``. ``label_mass`` is left out too: the
    answers of a question are scored among themselves. Ask ``estimators_`` for it.

    Examples
    --------
    >>> from instructclf import MultiOutputPromptClassifier
    >>> texts = ["Works well, came late.", "Broke at once.", "Late again.", "Lovely."]
    >>> topics = [["quality", "delivery"], ["quality"], ["delivery"], []]
    >>> classifier = MultiOutputPromptClassifier(n_shots=4, random_state=0).fit(texts, topics)
    >>> classifier.questions_.tolist()
    ['delivery', 'quality']
    >>> classifier.predict(["The parcel never came."]).shape
    (1, 2)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{name: own for name, own in CLASSIFIER_CONSTRAINTS.items() if name != "label_order"},
        "questions": ["array-like", None],
        "thresholds": [StrOptions({"f1"}), None],
    }

    labeller_: JointLabeller | JointEnsemble

    # What a fit has learned. Unfitted, these raise AttributeError, as scikit-learn expects.
    classes_ = property(lambda self: self.labeller_.classes)
    label_words_ = property(lambda self: self.labeller_.label_words)
    calibrations_ = property(lambda self: self.labeller_.calibrations)
    thresholds_ = property(lambda self: [own.threshold for own in self.labeller_.answers])
    questions_ = property(lambda self: np.array(self.labeller_.names))
    label_binarizer_ = property(lambda self: make_binarizer(self.labeller_))
    estimators_ = property(ask_alone)

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] | LanguageModel = "bundled",
        *,
        questions: Sequence[Any] | None = None,
        label_definitions: Mapping[Any, str | Mapping[Any, str]] | None = None,
        verbalizer: Mapping[Any, Mapping[Any, str | list[str]]] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = 16,
        sampler: str | ShotSampler = "balanced",
        n_seeds: int = 1,
        calibration: str | Calibrator | None = "auto",
        thresholds: str | None = None,
        model_options: ModelOptions | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.model = model
        self.questions = questions
        self.label_definitions = label_definitions
        self.verbalizer = verbalizer
        self.instruction = instruction
        self.template = template
        self.n_shots = n_shots
        self.sampler = sampler
        self.n_seeds = n_seeds
        self.calibration = calibration
        self.thresholds = thresholds
        self.model_options = model_options
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Choose the shots, write the prompt and calibrate each question.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), default=None
            The texts. May be left out with ``n_shots=0`` and ``label_definitions`` of all
            questions, where nothing is learned from rows.
        y : array-like of shape (n_texts, n_questions), or list of list of label, default=None
            A column of labels for each question: an array, a sparse matrix, a data frame or a list
            of equally long lists. Or the labels of each text, from none to all: lists of different
            lengths, sets, or a series of lists. `MultiLabelBinarizer` turns these into a column of
            0 and 1 for each label. If all your lists have the same length, give sets.

        Returns
        -------
        MultiOutputPromptClassifier
            This object.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidLabelsError
            If ``y`` is none of the above, a column has one label only and is not defined, or
            ``questions``, ``label_definitions`` or ``verbalizer`` do not fit its columns.
        InvalidShotsError
            If there are fewer rows than shots, ``n_seeds`` seeds without anything to draw, or a
            sampler that asks for the probabilities of one question.
        InvalidTemplateError
            If there is no such template.
        ModelLoadingError
            If the model or its tokenizer cannot be loaded.
        PromptTooLongError
            If instruction, definitions and shots leave no room for a text.

        Warns
        -----
        ChanceLevelWarning
            If the answers to a question are no better than chance on rows that were held out.
        """
        return self._fit(X, y)

    def _make_labeller(self, X: Any, y: Any, sample_weight: Any) -> JointLabeller | JointEnsemble:
        del sample_weight  # rows weigh alike
        check_draws(self)
        return fit_together(self, read_questions(self, X, y), self.open_model())

    # Predicting

    def label_scores(self, X: Any) -> list[LabelScores]:
        """Return the scores of each question's labels before and after calibration, from one pass.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        list of LabelScores
            For each question ``log_likelihood``, among the answers to the question, and
            ``log_probabilities``, both of shape (n_texts, n_classes).
        """
        check_is_fitted(self)
        with sharing_work(self._find_options("model_options").distributed):
            return self.labeller_.score(check_texts(X), self._fitted_model, verbose=self.verbose)

    def predict_log_proba(self, X: Any) -> list[NDArray[np.float64]]:
        """Return the log-probabilities of each question's labels.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        list of ndarray of shape (n_texts, n_classes)
            One array a question, columns as in its ``classes_``.
        """
        return [own.log_probabilities for own in self.label_scores(X)]

    def predict_proba(self, X: Any) -> list[NDArray[np.float64]]:
        """Return the probabilities of each question's labels.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        list of ndarray of shape (n_texts, n_classes)
            One array a question, as `sklearn.multioutput.MultiOutputClassifier` returns them. Rows
            sum to 1.
        """
        return [np.exp(own) for own in self.predict_log_proba(X)]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each question, or what its threshold says.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_questions)
            The labels, columns as in ``questions_``; for lists of labels, an indicator matrix. Of
            dtype object where columns are of different kinds.
        """
        scores = self.predict_proba(X)
        asked = self.labeller_.answers
        return side_by_side([own.choose(p) for own, p in zip(asked, scores, strict=True)])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of texts of which all questions are answered correctly.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        y : array-like of shape (n_texts, n_questions), or list of list of label
            The labels, as in ``fit``.
        sample_weight : array-like of shape (n_texts,), default=None
            How much each text counts.

        Returns
        -------
        float
            From 0 to 1, as `sklearn.multioutput.MultiOutputClassifier` returns it.
        """
        check_is_fitted(self)
        columns = read_label_table(y, self.questions_).columns
        texts = check_texts(X)
        check_same_length(texts, columns[0])
        right = np.all(self.predict(texts) == side_by_side(columns), axis=1)
        return float(np.average(right, weights=sample_weight))

    # Showing

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
        scorer, checked = self._ask_about(text)
        filled = scorer.fill_prompt(checked)
        return filled.prompt.render(filled.text, "")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_label = True
        return tags
