"""Instruction tuning: the shots train a LoRA adapter, and the prompt stays short."""

from __future__ import annotations

from os import PathLike
from typing import Any, Self

import numpy as np

from instructclf.classifiers.adapter_tuning import AdapterTuning
from instructclf.engine.tuning.examples import Loss
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler


class InstructionTunedClassifier(AdapterTuning):
    """Tune a language model with LoRA to answer an instruction with the label.

    ``fit`` trains a small adapter on the rows; the base model stays as it is, shared with every
    other classifier. The prompt holds the instruction and the definitions but no shots, so
    predicting is faster than by prompting with them. Labels are scored by likelihood, never
    generated, so no answer can be anything but a label.

    Parameters
    ----------
    model : str, path or tuple of (model, tokenizer), default="bundled"
        ``"bundled"`` for the small model that ships, a folder, or a hub id; also those of an
        adapter of PEFT, or of a GGUF file. ``"owner/name@revision"`` pins a branch, tag or commit
        of a hub id. Loaded once per process, whatever the number of classifiers. A pair of
        transformers objects is used as it is, on its device, and shared by clones; such a
        classifier cannot be pickled.
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
        rows, shrunk by what noise would give, and fits a temperature, which few rows leave near 1.
        It uses rows that are no shots; where there are none, it only normalises.
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
    checkpoint_dir : str, path or None, default=None
        A folder that lets ``fit`` go on where a process that was killed had stopped, to the same
        adapter, and that keeps fits that are done, which are then taken from there. It may be
        shared by clones, seeds and processes: each training run has a file of its own, named
        after all that determines the run. It is written after the first step, then so often that
        it takes no more than a twentieth of the time, and at the end. ``random_state`` must be set.
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
        bfloat16 on CUDA, else float16, and float32 on the CPU. Half precision is faster there,
        and every score is rounded on its way.
    quantization : {"4bit"} or None, default=None
        ``"4bit"`` stores the weights of linear layers in 4 bits (NF4) while loading them, for
        models that do not fit otherwise. They compute in ``dtype``. Scores move, and the less
        redundant a model, the more. Takes the ``quantization`` extra.
    device_map : "auto", dict or None, default=None
        Where the parts of a model that is too large for one device go, instead of ``device``:
        ``"auto"`` fills the GPUs, then the CPU's memory, then the disk; or a device for each part,
        as accelerate takes it. Scores stay the same. An adapter takes a model of which nothing is
        on the CPU or the disk while it runs on a GPU.
    distributed : {"auto"} or None, default="auto"
        Whether several processes share the work. ``"auto"``: where ``torchrun`` or ``accelerate
        launch`` has started several, or torch has a process group, ``fit`` and all predictions must
        be called in each of them with the same rows, and return the same in each. ``None`` works
        in this process alone.
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
        checkpoint_dir: str | PathLike[str] | None = None,
        max_length: int | None = None,
        max_batch_tokens: int | str | None = "auto",
        device: str | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
        device_map: str | dict[str, int | str] | None = None,
        distributed: str | None = "auto",
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
        self.checkpoint_dir = checkpoint_dir
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.device = device
        self.dtype = dtype
        self.quantization = quantization
        self.device_map = device_map
        self.distributed = distributed
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
        TrainingDivergedError
            If the training loss or its gradient is not finite.
        ScoringError
            If memory runs out with a single text, or a score is not finite.
        CheckpointError
            If the checkpoint of this very fit, in ``checkpoint_dir``, is damaged.
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
