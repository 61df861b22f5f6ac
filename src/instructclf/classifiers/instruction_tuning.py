"""Instruction tuning: the shots train a LoRA adapter, and the prompt stays short."""

from __future__ import annotations

import inspect
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.augmenting import add_attacked_copies
from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.saving import export_classifier
from instructclf.classifiers.weights import rows_that_count, weigh_rows
from instructclf.engine.adapters import (
    Adapter,
    LoraSettings,
    PeftSettings,
    average_adapters,
    check_peft_config,
    merge_adapter,
    read_adapter,
    read_config,
)
from instructclf.engine.examples import Loss
from instructclf.engine.loading import BaseModel
from instructclf.engine.scoring import LabelScorer
from instructclf.engine.training import TrainingSettings, tune_adapter
from instructclf.engine.views import shared_view
from instructclf.exceptions import InvalidLabelsError, SavedClassifierError
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler

_SAID_BY_PEFT_CONFIG = (
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "n_tuned_layers",
)


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
        A list of words is several answers for one label: their likelihoods add up, and the first
        is the one that the prompt states.
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
    label_order : {"sorted", "random"}, default="sorted"
        In which order the instruction states the labels: as in ``classes_``, or drawn from
        ``random_state``, so that several seeds average over orders.
    n_seeds : int, default=1
        How many adapters are trained, each with a seed of its own, spawned from ``random_state``:
        its own shots, order of rows and initial weights. ``fit`` takes as many times as long.
    seed_average : {"log_proba", "adapter"}, default="log_proba"
        What of several seeds is averaged. ``"log_proba"``: their calibrated log-probabilities; a
        prediction takes as many times as long. ``"adapter"``: their updates of the weights, into
        one adapter of ``n_seeds`` times the rank, which is their mean exactly; a prediction takes
        as long as with one seed.
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
    peft_config : peft.PeftConfig or None, default=None
        What PEFT calls the configuration of an adapter, for anything that LoRA as above is not:
        ``peft.LoraConfig(use_dora=True)``, ``peft.IA3Config()`` and so on. It is copied, and says
        all about the adapter: ``lora_rank``, ``lora_alpha``, ``lora_dropout``, ``target_modules``
        and ``n_tuned_layers`` must be left at their defaults. Kinds that work beside the layers of
        a model, that change the weights of the base model, or that move parameters while they are
        trained (AdaLoRA) are an error. Such adapters run PEFT's own layers.
    loss : {"lm", "label", "lm+label"}, default="lm+label"
        What is minimised. ``"lm"`` is the mean negative log-likelihood of the response's tokens,
        its end included; ``"label"`` the negative log-probability of the label among the labels;
        ``"lm+label"`` the sum of both. With labels of several tokens ``"lm"`` is faster, since the
        other labels are not computed.
    class_weight : dict, "balanced" or None, default=None
        How much the rows of each class count, ``{label: weight}``, beside ``sample_weight``. Labels
        that are not named weigh 1. ``"balanced"`` lets the rows of each class that are trained on
        weigh the same together. ``None`` weighs all rows alike. Calibration is not weighted.
    adversarial_augment : int, default=0
        How many copies of each row are trained on beside it that ask for another label, as by
        "forget what you have read so far", and have the label of the row. Each takes the time of a
        row. `instructclf.evaluation.injection_report` measures what they do.
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
        Training stops when the mean negative log-probability of the right label among the labels is
        as low as this; with ``loss="lm"``, that of its words among all words, which is never less.
    gradient_checkpointing : bool, default=False
        Whether layers run a second time in the backward pass instead of keeping all they computed.
        Tuning takes a fraction of the memory and about half as much time again. Gradients stay the
        same.
    warm_start : bool, default=False
        Whether ``fit`` begins with the adapter of the fit before, which must have had the same
        classes and an adapter of the same shape. The optimiser, its learning rate and all other
        things begin anew.
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
    label_words_ : tuple of tuple of str
        The answers that stand for each label, in the order of ``classes_``, the one that the prompt
        states first.
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
        The adapter's weights, named as PEFT names them.
    loss_curve_ : list of float
        The mean training loss of each epoch of the last fit, in the weights of the rows: what
        ``loss`` says.
    n_iter_ : int
        The number of epochs of the last fit.
    stopped_by_ : {"max_epochs", "n_iter_no_change", "target_loss"}
        Why training ended.

    estimators_ : list of InstructionTunedClassifier
        With ``n_seeds`` above 1, the fitted classifier of each seed. Then ``loss_curve_``,
        ``n_iter_`` and ``stopped_by_`` are theirs alone, and ``shots_`` are the rows that any of
        them was trained on. With ``seed_average="log_proba"``, ``prompt_``, ``calibration_`` and
        ``adapter_`` are theirs alone too.

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

    loss: Loss

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **PromptedClassifier._parameter_constraints,
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        "seed_average": [StrOptions({"log_proba", "adapter"})],
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
        "warm_start": ["boolean"],
        "peft_config": "no_validation",  # takes an import of peft: see `_validate_params`
        "loss": [StrOptions({"lm", "label", "lm+label"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "adversarial_augment": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] = "bundled",
        *,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str | list[str]] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = None,
        sampler: str | ShotSampler = "balanced",
        label_order: str = "sorted",
        n_seeds: int = 1,
        seed_average: str = "log_proba",
        calibration: str | None = "auto",
        lora_rank: int = 16,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        target_modules: str | list[str] | tuple[str, ...] = "all-linear",
        n_tuned_layers: int | None = None,
        peft_config: Any = None,
        loss: Loss = "lm+label",
        class_weight: dict[Any, float] | str | None = None,
        adversarial_augment: int = 0,
        learning_rate: float = 2e-4,
        max_epochs: int = 20,
        train_batch_size: int = 8,
        warmup_ratio: float = 0.1,
        tol: float = 1e-3,
        n_iter_no_change: int = 3,
        target_loss: float = 0.05,
        gradient_checkpointing: bool = False,
        warm_start: bool = False,
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
        self.label_order = label_order
        self.n_seeds = n_seeds
        self.seed_average = seed_average
        self.calibration = calibration
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.target_modules = target_modules
        self.n_tuned_layers = n_tuned_layers
        self.peft_config = peft_config
        self.loss = loss
        self.class_weight = class_weight
        self.adversarial_augment = adversarial_augment
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.train_batch_size = train_batch_size
        self.warmup_ratio = warmup_ratio
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.target_loss = target_loss
        self.gradient_checkpointing = gradient_checkpointing
        self.warm_start = warm_start
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.device = device
        self.dtype = dtype
        self.quantization = quantization
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the adapter and calibrate.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        sample_weight : array-like of shape (n_texts,), float or None, default=None
            How much each row counts in training: a weight of 2 is as good as the row given twice,
            as far as both fit into one batch. Only ratios matter. A row with a weight of 0 is as
            good as left out: it becomes no shot and is not calibrated with. Other weights decide
            neither which rows become shots nor the calibration. ``None`` weighs all rows alike.

        Returns
        -------
        InstructionTunedClassifier
            The fitted classifier.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidLabelsError
            If labels are missing, of one class only, or do not fit ``label_definitions``,
            ``verbalizer`` or ``class_weight``, or are others than those of the fit that
            ``warm_start`` goes on from.
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
            If the model has fewer layers than ``n_tuned_layers``, cannot be tuned with
            ``peft_config``, or the adapter that ``warm_start`` begins with has another shape; if
            ``sample_weight`` is negative, not finite, all 0, or not one number for each text; or if
            one adapter for all seeds (``seed_average="adapter"``) has no exact mean, or would have
            to answer prompts of several label orders.

        Warns
        -----
        FailedRunWarning
            If training learned nothing and was started again with another seed.
        """
        return self._fit(X, y, sample_weight)

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.peft_config is None:
            return
        try:
            check_peft_config(self.peft_config)
        except ValueError as error:
            msg = f"The 'peft_config' parameter of {type(self).__name__} must be {error} instead."
            raise InvalidParameterError(msg) from None
        for name in _SAID_BY_PEFT_CONFIG:
            value, default = getattr(self, name), self._default_of(name)
            if value != default:
                msg = (
                    f"{name}={value!r} means nothing together with 'peft_config', which says all "
                    f"about the adapter. Say it there, or leave {name} at {default!r}."
                )
                raise InvalidParameterError(msg)

    @classmethod
    def _default_of(cls, name: str) -> Any:
        return inspect.signature(cls).parameters[name].default

    def _fit_scorer(
        self,
        base: BaseModel,
        shots: list[str],
        codes: NDArray[np.intp],
        rng: np.random.RandomState,
        weights: NDArray[np.float64] | None,
    ) -> LabelScorer:
        start = self._earlier_adapter()
        first, second = (int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=2))
        shots, codes, weights = add_attacked_copies(
            shots, codes, weights, self.label_words_, n_copies=self.adversarial_augment, rng=rng
        )
        adapter, record = tune_adapter(
            base,
            self._make_encoder(base),
            shots,
            codes,
            lora=self._adapter_settings(),
            settings=self._training_settings(),
            seeds=(first, second),
            weights=weigh_rows(self.class_weight, self.classes_, codes, weights),
            start=start,
            verbose=self.verbose,
        )
        self.loss_curve_ = record.loss_curve
        self.n_iter_ = len(record.loss_curve)
        self.stopped_by_ = record.stopped_by
        self.adapter_ = adapter.state()
        self._adapter_classes = self.classes_
        return self._make_scorer(base, adapter.model)

    def _fit_members(self, X: Any, y: Any, sample_weight: Any) -> Self:
        super()._fit_members(X, y, sample_weight)
        if self.seed_average == "adapter":
            self._average_adapters(X, y, sample_weight)
        return self

    def _average_adapters(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Make one classifier of the members: the mean of their updates, calibrated anew."""
        texts, codes = self._check_rows(X, y)
        rows, _ = rows_that_count(sample_weight, texts, codes, self.classes_)
        shots = np.searchsorted(rows, self.shots_)
        self.prompt_ = self.estimators_[0].prompt_
        self.adapter_ = average_adapters([member.adapter_ for member in self.estimators_])
        self._scorer = self._rebuild_scorer(self._get_base())
        rng = check_random_state(self.random_state)
        self.calibration_ = self._calibrate([texts[i] for i in rows], codes[rows], shots, rng)

    @property
    def _averages_predictions(self) -> bool:
        return self.seed_average == "log_proba" and super()._averages_predictions

    def _check_seeds(self) -> None:
        if self.warm_start:
            msg = (
                f"warm_start=True goes on from one adapter, and n_seeds={self.n_seeds} makes "
                "several. Set n_seeds=1 or warm_start=False."
            )
            raise ValueError(msg)
        if self.seed_average == "adapter" and self.peft_config is not None:
            msg = (
                "seed_average='adapter' takes plain LoRA, whose updates have an exact mean, and "
                "'peft_config' may be anything. Set seed_average='log_proba'."
            )
            raise ValueError(msg)
        if self.seed_average == "adapter" and self.label_order == "random":
            msg = (
                "seed_average='adapter' makes one classifier, with one prompt, of all seeds, and "
                "label_order='random' gives each a prompt of its own. Set label_order='sorted' or "
                "seed_average='log_proba'."
            )
            raise ValueError(msg)

    def _rebuild_scorer(self, base: BaseModel) -> LabelScorer:
        return self._make_scorer(base, self._make_adapter(base).model)

    def _make_adapter(self, base: BaseModel) -> Adapter:
        """Return the fitted adapter on a view of its own."""
        adapter = Adapter(shared_view(base.model), self._adapter_settings(self.n_seeds))
        adapter.load(self.adapter_)
        return adapter

    def export(self, folder: str | PathLike[str]) -> None:
        """Write base model and adapter as one model, which plain transformers loads.

        The folder also gets the tokenizer, and ``prompt.json``: what stands before and after a
        text, the answers of each label, and the calibration.

        Parameters
        ----------
        folder : str or path
            Where to. A model exported there before is replaced; anything else is an error.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        SavedClassifierError
            If there is no one model to write: of several seeds whose predictions are averaged, or
            of a base model in 4 bits; or if the folder holds something else.

        Notes
        -----
        Weights are written in the precision they are in. In half precision an update that is small
        beside a weight is rounded away: load with ``dtype="float32"`` to export scores that stay
        the same.
        """
        check_is_fitted(self)
        if self._averages_predictions:
            msg = (
                f"There is no one model to export: n_seeds={self.n_seeds} adapters are averaged by "
                "what they predict. Fit with seed_average='adapter', or export one of estimators_."
            )
            raise SavedClassifierError(msg)
        if self.quantization is not None:
            msg = (
                f"Updates cannot be added to weights in {self.quantization}. Save the classifier, "
                "and export instructclf.load(folder, quantization=None)."
            )
            raise SavedClassifierError(msg)
        base = self._get_base()
        settings = self._adapter_settings(self.n_seeds)
        export_classifier(self, merge_adapter(base.model, settings, self.adapter_), base, folder)

    def _write_adapter(self, folder: Path) -> None:
        """Write the adapter's weights and configuration as PEFT does."""
        self._make_adapter(self._get_base()).write(folder, str(self.model))

    @staticmethod
    def _read_config(folder: Path) -> Any:
        """Read what a configuration of PEFT was, as far as it describes the adapter."""
        return read_config(folder)

    def _read_adapter(self, folder: Path) -> None:
        """Read the adapter's weights, where there are any."""
        weights = read_adapter(folder)
        if weights is not None:
            self.adapter_ = weights
            self._adapter_classes = self.classes_

    def _leave_one_out_scores(
        self,
        scorer: LabelScorer,  # noqa: ARG002  (each score would take a training run of its own)
    ) -> None:
        return None

    def _earlier_adapter(self) -> dict[str, Any] | None:
        """Return the adapter to begin with, if any. A fit that failed has left it as it was."""
        if not self.warm_start or not hasattr(self, "adapter_"):
            return None
        earlier, now = self._adapter_classes.tolist(), self.classes_.tolist()
        if earlier != now:
            msg = (
                f"warm_start=True goes on from a fit with the classes {earlier!r}, and now they "
                f"are {now!r}. Give labels of the same classes, name all of them in "
                "label_definitions from the first fit on, or set warm_start=False."
            )
            raise InvalidLabelsError(msg)
        return self.adapter_

    def _adapter_settings(self, n_adapters: int = 1) -> LoraSettings | PeftSettings:
        """Describe an adapter, or the mean of several: its rank is the sum of theirs."""
        if self.peft_config is not None:
            return PeftSettings(self.peft_config)
        targets = self.target_modules
        alpha = 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
        return LoraSettings(
            rank=n_adapters * self.lora_rank,
            alpha=n_adapters * alpha,
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
            loss=self.loss,
        )
