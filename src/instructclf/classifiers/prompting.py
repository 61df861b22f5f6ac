"""k-shot prompting: the shots stand solved in the prompt, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from instructclf.calibration import Calibrator
from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.fitting import Learned, Rows, show_shots
from instructclf.classifiers.options import ModelOptions
from instructclf.classifiers.parameters import documented
from instructclf.classifiers.shots import check_prompts_differ
from instructclf.engine.interfaces import LanguageModel, Question
from instructclf.inputs.texts import check_texts
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler


@documented
class PromptClassifier(PromptedClassifier):
    """Classify texts by the answer that a language model finds most likely after a prompt.

    ``fit`` chooses shots among the labelled rows and writes them into the prompt, with their
    labels. It trains nothing. The tokens that all prompts begin with are computed once, so a text
    costs only its own tokens; with an encoder-decoder model, whose encoder reads in both
    directions, it costs a full prompt. Labels are scored by likelihood, never generated, so every
    answer is a label.

    Parameters
    ----------
    {model}
    {label_definitions}
    {verbalizer}
    {instruction}
    {template}
    n_shots : int or None, default=16
        How many labelled rows the prompt shows. ``0`` asks without any; ``None`` shows all rows.
        More shots cost time once per ``fit``, and leave less of the context to the text. The
        default gives eight rows to each of two labels; with many labels, raise it or take
        ``sampler="knn"``.
    {sampler}
    {label_order}
    n_seeds : int, default=1
        How many times shots are drawn, each with its own seed, spawned from ``random_state``. The
        prediction is the mean of the calibrated log-probabilities. Raise it to depend less on the
        draw, or on the order of labels, with ``label_order="cyclic"``; a prediction takes
        ``n_seeds`` times as long.
    calibration : "auto", None or object with a calibrate method, default="auto"
        How the bias of the prompt towards a label is removed. ``"auto"`` subtracts from each
        label's log-likelihood its class-balanced mean over labelled rows, shrunk towards zero by
        what chance would give, and fits a temperature (Platt, 1999). It uses rows that are not
        shots. Without these, it scores each shot after a prompt of the others; if shots are chosen
        for each text, rows that are left out of their own prompts. ``None`` only normalises. Other
        methods are in `instructclf.calibration`; any object with the same method works.
    {model_options}
    random_state : int, RandomState instance or None, default=None
        Decides which shots are drawn, and their order. Set it to get the same classifier again.
    {verbose}

    Attributes
    ----------
    {classes_}
    {label_words_}
    shots_ : ndarray of shape (n_shots,)
        Which rows of ``X`` became shots, in the order of their use. All rows, if the sampler
        chooses for each text: ``shots_for`` returns those of a text.
    {prompt_}
    {max_length_}
    {calibration_}
    estimators_ : list of PromptClassifier
        With ``n_seeds`` above 1, the fitted classifier of each seed. Then only they have
        ``prompt_`` and ``calibration_``, and ``shots_`` are the rows that any of them shows.
    {labeller_}

    See Also
    --------
    InstructionTunedClassifier : Trains an adapter on the shots instead, and predicts faster.

    Examples
    --------
    >>> from instructclf import PromptClassifier
    >>> classifier = PromptClassifier(n_shots=4, random_state=0)
    >>> texts = ["Works well.", "Broke at once.", "Lovely.", "A waste.", "Superb.", "Useless."]
    >>> labels = ["positive", "negative"] * 3
    >>> classifier.fit(texts, labels).predict_proba(["Splendid, I would buy it again."]).shape
    (1, 2)
    """

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] | LanguageModel = "bundled",
        *,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str | list[str]] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = 16,
        sampler: str | ShotSampler = "balanced",
        label_order: str | Sequence[Any] = "sorted",
        n_seeds: int = 1,
        calibration: str | Calibrator | None = "auto",
        model_options: ModelOptions | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.model = model
        self.label_definitions = label_definitions
        self.verbalizer = verbalizer
        self.instruction = instruction
        self.template = template
        self.n_shots = n_shots
        self.sampler = sampler
        self.label_order = label_order
        self.n_seeds = n_seeds
        self.calibration = calibration
        self.model_options = model_options
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Choose the shots, write the prompt and calibrate.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), default=None
            The texts. May be left out with ``n_shots=0`` and ``label_definitions``, where nothing
            is learned from rows.
        y : array-like of shape (n_texts,), default=None
            Their labels.

        Returns
        -------
        PromptClassifier
            The fitted classifier.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidLabelsError
            If labels are missing, of one class only, or do not fit ``label_definitions`` or
            ``verbalizer``.
        InvalidShotsError
            If there are fewer rows than shots, fewer shots than labels, or ``n_seeds`` seeds
            without anything to draw.
        InvalidTemplateError
            If there is no such template.
        ModelLoadingError
            If the model or its tokenizer cannot be loaded.
        PromptTooLongError
            If instruction, definitions and shots leave no room for a text.

        Warns
        -----
        ChanceLevelWarning
            If rows that were held out for calibration are labelled no better than by chance.
        """
        return self._fit(X, y)

    def shots_for(self, X: Any) -> list[NDArray[np.intp]]:
        """Return which rows the prompt of each text shows.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        list of ndarray of shape (n_shots,)
            For each text, indices into the ``X`` of ``fit``, in the order of its prompt. They
            differ from text to text with a sampler that chooses for each, such as ``"knn"``, and
            are ``shots_`` with any other.
        """
        check_is_fitted(self)
        texts = check_texts(X)
        per_text = self.labeller_.shots_per_text
        return [self.shots_.copy() for _ in texts] if per_text is None else per_text.rows(texts)

    def _learn(
        self,
        model: LanguageModel,
        question: Question,
        shots: Rows,
        rng: np.random.RandomState,  # noqa: ARG002  (nothing here is random)
    ) -> Learned:
        return show_shots(model, question, shots)

    def _check_draws(self) -> None:
        check_prompts_differ(self, draws_order=self.label_order in ("random", "cyclic"))
