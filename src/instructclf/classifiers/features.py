"""Texts → the states of a language model that has read them in a prompt, for any estimator."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.labels import check_label_words, find_stated_labels
from instructclf.classifiers.options import ModelOptions
from instructclf.classifiers.parameters import PROMPT_CONSTRAINTS, documented
from instructclf.classifiers.questions import find_template, write_question
from instructclf.classifiers.sharing import SharedModelEstimator, observed
from instructclf.classifiers.showing.prompt import ShownPrompt, look_at_prompt
from instructclf.engine.interfaces import LanguageModel, Question, StateReader
from instructclf.engine.running.processes import sharing_work
from instructclf.engine.running.progress import Progress
from instructclf.inputs.texts import check_texts
from instructclf.prompts import PromptTemplate


@documented
class PromptFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SharedModelEstimator):
    """Turn texts into the last hidden state of a language model that has read them in a prompt.

    This is the state from which `PromptClassifier` computes the likelihood of each label. Put any
    scikit-learn estimator on top of it, or combine it with other features. ``fit`` only writes the
    prompt. It learns nothing from rows, so the same text always gets the same features.

    Parameters
    ----------
    {model}
    labels : sequence or None, default=None
        The labels that the prompt states. Set them if the features serve to tell these labels
        apart: the model then reads each text for this task. ``None`` takes those of
        ``label_definitions``; without these, the prompt states none, for features that serve
        several tasks. They never come from ``y``, so the estimator on top may have other targets,
        such as numbers, and some rows may have no label.
    {label_definitions}
    {verbalizer}
    {instruction}
    {template}
    {model_options}
    {verbose}

    Attributes
    ----------
    question_ : Question
        The prompt and the words of each label. The other attributes read it.
    {prompt_}
    label_words_ : tuple of tuple of str
        The words that the prompt states for each label, in the sorted order of the labels. Empty
        without labels.
    {max_length_}

    See Also
    --------
    PromptClassifier : Needs no estimator on top. It compares the likelihoods of the labels.
    InstructionTunedClassifier : Trains an adapter inside the model instead of an estimator on top.

    Notes
    -----
    The prompt holds no solved examples. They would be rows of the training data. The features of
    these rows would contain their own answers, and the estimator on top would learn to copy them.

    With few rows, take another classifier: with 8 rows a label of Amazon Polarity and Gemma 3 270M,
    logistic regression on these features has an accuracy of 0.597, and `PromptClassifier` of 0.875
    (``python benchmarks/real_models.py``).

    The channels of a state have very different scales. Put a ``StandardScaler`` before a linear
    model, so that it converges sooner.

    Examples
    --------
    >>> from instructclf import PromptFeatures
    >>> features = PromptFeatures(labels=["negative", "positive"])
    >>> features.fit_transform(["Works well.", "Broke at once."]).shape[0]
    2

    As a step of a pipeline:

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> classifier = make_pipeline(features, StandardScaler(), LogisticRegression())
    >>> texts = ["Works well.", "Broke at once.", "Lovely.", "A waste."]
    >>> classifier.fit(texts, [1, 0, 1, 0]).predict(["Superb."]).shape
    (1,)
    """

    _FITTED = "question_"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **PROMPT_CONSTRAINTS,
        "labels": ["array-like", None],
    }

    question_: Question
    prompt_ = property(lambda self: self.question_.prompt)
    label_words_ = property(lambda self: self.question_.label_words)
    max_length_ = property(lambda self: self.question_.max_length)

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] | LanguageModel = "bundled",
        *,
        labels: Sequence[Any] | None = None,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str | list[str]] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        model_options: ModelOptions | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.model = model
        self.labels = labels
        self.label_definitions = label_definitions
        self.verbalizer = verbalizer
        self.instruction = instruction
        self.template = template
        self.model_options = model_options
        self.verbose = verbose

    @observed
    def fit(self, X: Any = None, y: Any = None) -> Self:  # noqa: ARG002  (as Pipeline calls it)
        """Write the prompt. Nothing is learned from the texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), default=None
            The texts, which are only checked.
        y : object, default=None
            Ignored. Pipelines pass it.

        Returns
        -------
        PromptFeatures
            The fitted transformer.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidLabelsError
            If ``labels``, ``label_definitions`` and ``verbalizer`` do not fit together.
        InvalidTemplateError
            If there is no such template.
        ModelLoadingError
            If the model or its tokenizer cannot be loaded.
        PromptTooLongError
            If instruction and definitions leave no room for a text.
        """
        self._validate_params()
        vars(self).pop("question_", None)
        template = find_template(self.template)
        if X is not None:
            check_texts(X)
        labels = find_stated_labels(self.labels, self.label_definitions)
        model = self.open_model()
        question = write_question(
            model,
            template,
            task=self.instruction,
            labels=labels.tolist(),
            label_words=check_label_words(labels, self.verbalizer) if len(labels) else (),
            definitions=self.label_definitions,
            max_length=self._find_options("model_options").max_length,
        )
        self._reader = model.state_reader(question)
        self._n_features_out = self._reader.n_channels
        self.question_ = question
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the last hidden state of each text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        ndarray of shape (n_texts, n_channels)
            In float64 from a model in double precision, else in float32.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        InvalidTextsError
            If ``X`` is no sequence of strings.

        Warns
        -----
        TruncationWarning
            If texts had to be cut: how many, and which.
        """
        check_is_fitted(self)
        texts = check_texts(X)
        with (
            sharing_work(self._find_options("model_options").distributed),
            Progress("Reading", len(set(texts)), verbose=self.verbose) as progress,
        ):
            return self._get_reader().read(texts, progress)

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
        return self.prompt_.render(self._get_reader().fill_prompt(checked).text)

    def show_prompt(self, text: str) -> ShownPrompt:
        """Show the prompt of a text as the model reads it, with every part named.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        ShownPrompt
            A notebook shows it in colour; ``print`` writes it line by line.
        """
        check_is_fitted(self)
        (checked,) = check_texts([text])
        filled = self._get_reader().fill_prompt(checked)
        return look_at_prompt(filled, checked, "", self.max_length_)

    def _get_reader(self) -> StateReader:
        """Return what reads states after the fitted prompt, made again after unpickling."""
        if vars(self).get("_reader") is None:
            self._reader = self.open_model().state_reader(self.question_)
        return self._reader

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # texts have none
        return tags
