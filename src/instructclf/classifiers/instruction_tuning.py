"""Instruction tuning: the shots train a LoRA adapter, and the prompt stays short."""

from __future__ import annotations

from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from instructclf.classifiers.base import PromptedClassifier
from instructclf.engine.adapters import Adapter, LoraSettings
from instructclf.engine.loading import BaseModel
from instructclf.engine.scoring import LabelScorer
from instructclf.engine.training import TrainingSettings, tune_adapter
from instructclf.engine.views import shared_view
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler


class InstructionTunedClassifier(PromptedClassifier):
    """Tune a language model with LoRA to answer an instruction with the label.

    ``fit`` trains a small adapter on the rows; the base model stays as it is, shared with every
    other classifier. The prompt holds the instruction and the definitions but no shots, so
    predicting is faster than by prompting with them. Labels are scored by likelihood, never
    generated, so no answer can be anything but a label.

    Parameters
    ----------
    model : str, path or tuple of (model, tokenizer), default="bundled"
        ``"bundled"`` for the small model that ships, a folder, or a hub id. Loaded once per
        process, whatever the number of classifiers. A pair of transformers objects is used as it
        is, on its device, and shared by clones; such a classifier cannot be pickled.
    label_definitions : dict or None, default=None
        What each label means, ``{label: one sentence}``, stated in the prompt. Given, its keys are
        the classes, so that a label that a fold lacks is still known.
    verbalizer : dict or None, default=None
        The words that the model answers with, ``{label: words}``. ``None`` takes ``str(label)``.
    instruction : str or None, default=None
        The task in your words. The labels to choose from are stated after it in any case. ``None``
        asks to classify the input.
    template : str or PromptTemplate, default="alpaca"
        What stands around instruction, demonstrations and input: ``"alpaca"``,
        ``"alpaca_legacy"``, ``"alpaca_short"``, ``"chat"`` for the tokenizer's own, or a template.
    n_shots : int or None, default=None
        How many rows the adapter is trained on. ``None`` takes all rows.
    sampler : str or object with a select method, default="balanced"
        How the shots are chosen among the rows: ``"balanced"``, ``"random"``, ``"kmeans"``,
        ``"facility_location"``, ``"vote_k"``, ``"uncertainty"``, or one of `instructclf.sampling`.
        ``"knn"`` chooses others for each text, the rows most similar to it, which only
        `PromptClassifier` can use.
    calibration : {"auto", "contextual", "domain", "batch"} or None, default="auto"
        ``"auto"`` takes from each label's log-likelihood its class-balanced mean over labelled
        rows, shrunk by what noise would give, and fits a temperature from 32 rows on. It uses
        rows that are no shots; where there are none, it only normalises.
        ``"contextual"``, ``"domain"`` and ``"batch"`` are for comparison. They take the mean of
        each label's probability: over the texts "N/A", "" and "[MASK]"; over 20 texts of random
        words from the texts of ``fit``; or over the very texts to predict, which is right only
        where labels are equally frequent, and makes an answer depend on its neighbours.
        ``None`` only normalises.
    lora_rank : int, default=16
        The rank of each update, and so the size of the adapter.
    lora_alpha : float or None, default=None
        Updates are scaled by ``lora_alpha / lora_rank``. ``None`` takes twice the rank.
    lora_dropout : float, default=0.0
        The share of inputs that an update does not see during training.
    target_modules : str or list of str, default="all-linear"
        The layers that get an update: all linear ones but the output, or names as PEFT takes them.
    n_tuned_layers : int or None, default=None
        How many of the last transformer layers get updates. ``None`` for all. What the layers below
        make of each row is computed once and kept for all epochs, if that takes no more than a
        quarter of the free memory: tuning is several times faster, and learns a smaller adapter.
    learning_rate : float, default=2e-4
        The highest learning rate of AdamW. It rises and falls linearly.
    max_epochs : int, default=20
        The most passes over the rows.
    train_batch_size : int, default=8
        Rows of one optimiser step.
    warmup_ratio : float, default=0.1
        The share of all steps in which the learning rate rises.
    tol : float, default=1e-3
        The least fall of the training loss that counts as an improvement.
    n_iter_no_change : int, default=3
        After how many epochs without an improvement training stops.
    target_loss : float, default=0.05
        Training stops when the mean negative log-probability of the right label is as low as this.
    gradient_checkpointing : bool, default=False
        Whether layers run a second time in the backward pass instead of keeping all they computed.
        Tuning takes a fraction of the memory and about half as much time again. Gradients stay the
        same.
    max_length : int or None, default=None
        The most tokens of a prompt with its label. Longer texts are cut in their middle, with a
        warning. ``None`` takes the model's context.
    max_batch_tokens : int, "auto" or None, default="auto"
        The most tokens that go through the model at once, padding included. More takes more
        memory; it does not change scores. ``"auto"`` or ``None`` takes what suits the device.
    device : str or None, default=None
        Where the model runs, such as ``"cpu"`` or ``"cuda:1"``. ``None`` takes CUDA where there is
        one.
    dtype : str or None, default=None
        The precision of the weights, such as ``"float32"`` or ``"bfloat16"``. ``None`` takes
        bfloat16 on CUDA, else float16, and float32 on the CPU. Half precision is faster and moves
        log-likelihoods by up to some tenths.
    quantization : {"4bit"} or None, default=None
        ``"4bit"`` stores the weights of linear layers in 4 bits (NF4) while loading them, for
        models that do not fit otherwise. They compute in ``dtype``. Scores move, and the less
        redundant a model, the more. Takes the ``quantization`` extra.
    random_state : int, RandomState instance or None, default=None
        Decides which shots are drawn, the initial adapter and the order of rows in training.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    label_words_ : tuple of str
        The words the model answers with, in the order of ``classes_``.
    shots_ : ndarray of shape (n_shots,)
        Which rows of ``X`` became shots, in the order of their use.
    prompt_ : Prompt
        Template, instruction and demonstrations.
    max_length_ : int or None
        The most tokens of a prompt with its label.
    calibration_ : Calibration or BatchCalibration
        What makes log-likelihoods probabilities: its ``bias`` and ``temperature``, or, for
        ``"batch"``, what finds them at prediction.
    adapter_ : dict of str to Tensor
        The adapter's weights.
    loss_curve_ : list of float
        The mean training loss of each epoch: the negative log-likelihood of a response's tokens
        plus the negative log-probability of the label among the labels.
    n_iter_ : int
        The number of epochs.
    stopped_by_ : {"max_epochs", "n_iter_no_change", "target_loss"}
        Why training ended.

    See Also
    --------
    PromptClassifier : Shows the shots in the prompt instead, and trains nothing.

    References
    ----------
    .. [1] Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    .. [2] Taori et al., "Stanford Alpaca: An Instruction-following LLaMA model", 2023.

    Examples
    --------
    >>> from instructclf import InstructionTunedClassifier
    >>> classifier = InstructionTunedClassifier(lora_rank=8, max_epochs=1, random_state=0)
    >>> classifier.get_params()["lora_rank"]
    8
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PromptedClassifier._parameter_constraints,
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        "lora_rank": [Interval(Integral, 1, None, closed="left")],
        "lora_alpha": [Interval(Real, 0, None, closed="neither"), None],
        "lora_dropout": [Interval(Real, 0, 1, closed="left")],
        "target_modules": [str, list, tuple],
        "n_tuned_layers": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "train_batch_size": [Interval(Integral, 1, None, closed="left")],
        "warmup_ratio": [Interval(Real, 0, 1, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "target_loss": [Interval(Real, 0, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
    }

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] = "bundled",
        *,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = None,
        sampler: str | ShotSampler = "balanced",
        calibration: str | None = "auto",
        lora_rank: int = 16,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        target_modules: str | list[str] | tuple[str, ...] = "all-linear",
        n_tuned_layers: int | None = None,
        learning_rate: float = 2e-4,
        max_epochs: int = 20,
        train_batch_size: int = 8,
        warmup_ratio: float = 0.1,
        tol: float = 1e-3,
        n_iter_no_change: int = 3,
        target_loss: float = 0.05,
        gradient_checkpointing: bool = False,
        max_length: int | None = None,
        max_batch_tokens: int | str | None = "auto",
        device: str | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
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
        self.calibration = calibration
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.target_modules = target_modules
        self.n_tuned_layers = n_tuned_layers
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.train_batch_size = train_batch_size
        self.warmup_ratio = warmup_ratio
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.target_loss = target_loss
        self.gradient_checkpointing = gradient_checkpointing
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.device = device
        self.dtype = dtype
        self.quantization = quantization
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the adapter and calibrate.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.

        Returns
        -------
        InstructionTunedClassifier
            The fitted classifier.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidLabelsError
            If labels are missing, of one class only, or do not fit ``label_definitions`` or
            ``verbalizer``.
        InvalidShotsError
            If there are fewer rows than shots, or fewer shots than labels.
        InvalidTemplateError
            If there is no such template.
        ModelLoadingError
            If the model or its tokenizer cannot be loaded.
        PromptTooLongError
            If instruction and definitions leave no room for a text.
        ScoringError
            If the training loss is not finite.
        ValueError
            If the model has fewer layers than ``n_tuned_layers``.

        Warns
        -----
        FailedRunWarning
            If training learned nothing and was started again with another seed.
        """
        return self._fit(X, y)

    def _fit_scorer(
        self,
        base: BaseModel,
        shots: list[str],
        codes: NDArray[np.intp],
        rng: np.random.RandomState,
    ) -> LabelScorer:
        first, second = (int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=2))
        adapter, record = tune_adapter(
            base,
            self._make_encoder(base),
            shots,
            codes,
            lora=self._lora_settings(),
            settings=self._training_settings(),
            seeds=(first, second),
            verbose=self.verbose,
        )
        self.loss_curve_ = record.loss_curve
        self.n_iter_ = len(record.loss_curve)
        self.stopped_by_ = record.stopped_by
        self.adapter_ = adapter.state()
        return self._make_scorer(base, adapter.model)

    def _rebuild_scorer(self, base: BaseModel) -> LabelScorer:
        adapter = Adapter(shared_view(base.model), self._lora_settings())
        adapter.load(self.adapter_)
        return self._make_scorer(base, adapter.model)

    def _leave_one_out_scores(
        self,
        scorer: LabelScorer,  # noqa: ARG002  (each score would take a training run of its own)
    ) -> None:
        return None

    def _lora_settings(self) -> LoraSettings:
        targets = self.target_modules
        return LoraSettings(
            rank=self.lora_rank,
            alpha=2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha,
            dropout=self.lora_dropout,
            target_modules=targets if isinstance(targets, str) else tuple(targets),
            n_layers=self.n_tuned_layers,
        )

    def _training_settings(self) -> TrainingSettings:
        return TrainingSettings(
            learning_rate=self.learning_rate,
            max_epochs=self.max_epochs,
            batch_size=self.train_batch_size,
            warmup_ratio=self.warmup_ratio,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            target_loss=self.target_loss,
            max_batch_tokens=self._token_budget(),
            gradient_checkpointing=self.gradient_checkpointing,
        )
