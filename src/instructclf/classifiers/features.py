"""Texts → what a language model makes of them after a prompt, for any scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.labels import check_label_words, defined_classes
from instructclf.classifiers.observing import observed
from instructclf.classifiers.sharing import MODEL_CONSTRAINTS, SharedModelEstimator
from instructclf.classifiers.showing.card import CardShowing
from instructclf.classifiers.showing.prompt import ShownPrompt, look_at_prompt
from instructclf.classifiers.writing import find_template, resolve_max_length, write_prompt
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.models.views import shared_view
from instructclf.engine.running.progress import Progress
from instructclf.engine.scoring.states import NO_LABELS, StateReader
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.texts import check_texts
from instructclf.prompts import Prompt, PromptTemplate


class PromptFeatures(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, CardShowing, SharedModelEstimator
):
    """Turn texts into the last hidden state of a language model that has read them in a prompt.

    It is the state at the very place where `PromptClassifier` reads labels: what the model would
    answer from. Put any scikit-learn estimator on top of it, or beside other features. Nothing is
    learned from rows: ``fit`` writes the prompt, and the same text always gets the same features.

    Parameters
    ----------
    model : str, path or tuple of (model, tokenizer), default="bundled"
        ``"bundled"`` for the small model that ships, a folder, or a hub id; also those of an
        adapter of PEFT, or of a GGUF file. ``"owner/name@revision"`` pins a branch, tag or commit
        of a hub id. Loaded once per process, whatever the number of estimators. A pair of
        transformers objects is used as it is, on its device, and shared by clones; such a
        transformer cannot be pickled.
    labels : sequence or None, default=None
        The labels that the prompt states, to be chosen from. ``None`` takes those of
        ``label_definitions``; without these, none are stated. They are never taken from ``y``, so
        that a head may have other targets, or rows without a label.
    label_definitions : dict or None, default=None
        What each label means, ``{label: one sentence}``, stated in the prompt.
    verbalizer : dict or None, default=None
        The words that stand for labels, ``{label: words}``. ``None`` takes ``str(label)``.
    instruction : str or None, default=None
        The task in your words. Labels are stated after it. ``None`` asks to classify the input.
    template : str or PromptTemplate, default="alpaca"
        What stands around instruction and input: ``"alpaca"``, ``"alpaca_legacy"``,
        ``"alpaca_short"``, ``"chat"`` for the tokenizer's own, or a template.
    max_length : int or None, default=None
        The most tokens of a prompt with its label. Longer texts are cut in their middle, with a
        warning. ``None`` takes the model's context.
    max_batch_tokens : int, "auto" or None, default="auto"
        The most tokens that go through the model at once, padding included. More takes more
        memory; it does not change features. ``"auto"`` or ``None`` takes what suits the device.
    device : str or None, default=None
        Where the model runs, such as ``"cpu"`` or ``"cuda:1"``. ``None`` takes CUDA where there is
        one.
    dtype : str or None, default=None
        The precision of the weights, such as ``"float32"`` or ``"bfloat16"``. ``None`` takes
        bfloat16 on CUDA, else float16, and float32 on the CPU.
    quantization : {"4bit"} or None, default=None
        ``"4bit"`` stores the weights of linear layers in 4 bits (NF4) while loading them. Takes the
        ``quantization`` extra.
    device_map : "auto", dict or None, default=None
        Where the parts of a model that is too large for one device go, instead of ``device``:
        ``"auto"`` fills the GPUs, then the CPU's memory, then the disk; or a device for each part,
        as accelerate takes it. Features stay the same.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Attributes
    ----------
    prompt_ : Prompt
        Template and instruction.
    label_words_ : tuple of tuple of str
        The words that the prompt states, label by label, the stated one first. Empty without
        labels.
    max_length_ : int or None
        The most tokens of a prompt with its label.

    See Also
    --------
    PromptClassifier : Needs no head: scores the labels' words, after solved examples.
    InstructionTunedClassifier : Trains an adapter inside the model instead of a head on top.

    Notes
    -----
    There are no solved examples in this prompt. The rows shown would have to be rows of the
    training data, whose features would then hold their own answers, and a head would learn to read
    these off.

    States of different channels have very different sizes. Linear heads converge sooner after a
    ``StandardScaler``.

    Examples
    --------
    >>> from instructclf import PromptFeatures
    >>> features = PromptFeatures(labels=["negative", "positive"])
    >>> features.fit_transform(["Works well.", "Broke at once."]).shape[0]
    2
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MODEL_CONSTRAINTS,
        "labels": ["array-like", None],
        "label_definitions": [dict, None],
        "verbalizer": [dict, None],
        "instruction": [str, None],
        "template": [str, PromptTemplate],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "verbose": ["verbose", Interval(Real, 0, None, closed="left")],
    }
    _LEARNED_LAST = ("prompt_",)

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] = "bundled",
        *,
        labels: Sequence[Any] | None = None,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str | list[str]] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        max_length: int | None = None,
        max_batch_tokens: int | str | None = "auto",
        device: str | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
        device_map: str | dict[str, int | str] | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.model = model
        self.labels = labels
        self.label_definitions = label_definitions
        self.verbalizer = verbalizer
        self.instruction = instruction
        self.template = template
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.device = device
        self.dtype = dtype
        self.quantization = quantization
        self.device_map = device_map
        self.verbose = verbose

    @observed
    def fit(self, X: Any = None, y: Any = None) -> Self:  # noqa: ARG002  (as Pipeline calls it)
        """Write the prompt. Nothing is learned from the texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), default=None
            The texts, which are only checked.
        y : object, default=None
            Ignored, and there for scikit-learn's sake.

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
        self._unfit()
        template = find_template(self.template)
        if X is not None:
            check_texts(X)
        labels = self._find_labels()
        defined = self.label_definitions
        self.label_words_ = check_label_words(labels, self.verbalizer) if len(labels) else ()
        base = self._get_base()
        self.max_length_ = resolve_max_length(base, self.max_length)
        prompt = write_prompt(
            base,
            template,
            task=self.instruction,
            label_words=self.label_words_,
            definitions=None if defined is None else [defined[own] for own in labels.tolist()],
            order=range(len(labels)),
        )
        self._reader = self._make_reader(base, prompt)
        self._n_features_out = self._reader.n_channels
        self.prompt_ = prompt
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
        with Progress("Reading", len(dict.fromkeys(texts)), verbose=self.verbose) as progress:
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
        return self.prompt_.render(self._get_reader().encoder.shorten(checked))

    def show_prompt(self, text: str) -> ShownPrompt:
        """Show the prompt of a text as the model reads it, every part named.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        ShownPrompt
            In a notebook it is coloured; ``print`` writes it line by line.
        """
        check_is_fitted(self)
        (checked,) = check_texts([text])
        return look_at_prompt(self._get_reader().encoder, checked, "")

    def _find_labels(self) -> NDArray[Any]:
        """Return the labels that are stated, sorted, as a classifier states its classes."""
        defined = self.label_definitions
        if self.labels is None:
            return np.empty(0, dtype=str) if defined is None else defined_classes(defined)
        labels = np.unique(np.asarray(self.labels))
        if defined is not None and labels.tolist() != defined_classes(defined).tolist():
            msg = (
                f"labels={list(self.labels)!r} and label_definitions, which has "
                f"{list(defined)!r}, must name the same labels. Leave out 'labels'."
            )
            raise InvalidLabelsError(msg)
        return labels

    def _stated_labels(self) -> list[Any]:
        return self._find_labels().tolist()

    def _get_reader(self) -> StateReader:
        """Return what reads states after the fitted prompt, built again after unpickling."""
        if getattr(self, "_reader", None) is None:
            self._reader = self._make_reader(self._get_base(), self.prompt_)
        return self._reader

    def _make_reader(self, base: BaseModel, prompt: Prompt) -> StateReader:
        words = self.label_words_ or NO_LABELS
        return StateReader(
            shared_view(base.model),
            PromptEncoder(base.tokenizer, prompt, words, self.max_length_),
            max_batch_tokens=self._token_budget(),
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # texts have none
        return tags
