"""Parameters that few people change, in values that are scikit-learn estimators themselves.

So ``clone`` copies them, and nested names such as ``model_options__dtype`` reach them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from instructclf.engine.tuning.adapters import AdapterSettings, LoraSettings, PeftSettings


class ModelOptions(BaseEstimator):
    """How a language model is loaded and run.

    Parameters
    ----------
    dtype : str, default="auto"
        The precision of the weights, such as ``"float32"`` or ``"bfloat16"``. ``"auto"`` takes
        bfloat16 on CUDA (float16 where the device has no bfloat16), and float16 on Apple's GPUs. On
        a CPU it takes bfloat16 if the processor has instructions for it and the model is stored in
        bfloat16, or in a GGUF file of fewer bits; otherwise float32. Half precision is faster,
        takes half the memory and rounds scores.
    device : str, default="auto"
        Where the model runs, such as ``"cpu"`` or ``"cuda:1"``. ``"auto"`` takes CUDA if there is a
        device, else Apple's GPU, else the CPU.
    device_map : "auto", dict or None, default=None
        Spreads a model that is too large for one device: ``"auto"`` fills the GPUs, then the CPU's
        memory, then the disk; a dict names a device for each part, as accelerate takes it. Scores
        stay the same. ``None`` puts the whole model on ``device``. An adapter cannot be tuned on a
        model of which a part is offloaded to the CPU or the disk.
    quantization : "4bit" or None, default=None
        ``"4bit"`` stores the weights of linear layers in 4 bits (NF4) while loading them, for
        models that do not fit otherwise. They compute in ``dtype``. Scores change, more so in small
        models. Takes the ``quantization`` extra.
    max_length : int or None, default=None
        The largest number of tokens of a prompt with its label. Longer texts are cut in their
        middle, with a warning. ``None`` takes the model's context.
    max_batch_tokens : int or "auto", default="auto"
        The largest number of tokens that go through the model at once, padding included. Lower it
        if other programs need the memory; it does not change scores. ``"auto"`` chooses by device
        and free memory.
    distributed : "auto" or None, default="auto"
        Whether several processes share the work. With ``"auto"`` they do if ``torchrun`` or
        ``accelerate launch`` has started several, or if torch has a process group: call ``fit`` and
        all predictions in each process with the same rows, and each gets the same result. ``None``
        works in this process alone.

    Examples
    --------
    >>> from instructclf import ModelOptions, PromptClassifier
    >>> classifier = PromptClassifier(model_options=ModelOptions(dtype="bfloat16"))
    >>> classifier.get_params()["model_options__dtype"]
    'bfloat16'
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "dtype": [str],
        "device": [str],
        "device_map": [StrOptions({"auto"}), dict, None],
        "quantization": [StrOptions({"4bit"}), None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "max_batch_tokens": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "distributed": [StrOptions({"auto"}), None],
    }

    def __init__(
        self,
        *,
        dtype: str = "auto",
        device: str = "auto",
        device_map: str | dict[str, int | str] | None = None,
        quantization: str | None = None,
        max_length: int | None = None,
        max_batch_tokens: int | str = "auto",
        distributed: str | None = "auto",
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.device_map = device_map
        self.quantization = quantization
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.distributed = distributed


class LoRA(BaseEstimator):
    """A low-rank adapter: each linear layer gets a trained update, and its weights stay frozen.

    Parameters
    ----------
    rank : int, default=16
        The rank of each update, and so the size of the adapter. A smaller one trains fewer weights
        and makes smaller files. PEFT calls it ``r``.
    alpha : float or None, default=None
        Updates are multiplied by ``alpha / rank``. ``None`` takes twice the rank, so that changing
        the rank does not change the scale.
    dropout : float, default=0.0
        The share of inputs that an update does not see during training, which regularises it.
    target_modules : str or list of str, default="all-linear"
        The layers that get an update: all linear ones except the output layer, or names as PEFT
        takes them.
    n_layers : int or None, default=None
        How many of the last transformer layers get updates. ``None`` takes all. Set it to tune
        several times faster, with a smaller adapter: the states of each row below these layers are
        computed once and kept for all epochs, if they fit into a quarter of the free memory. Takes
        a decoder-only model.

    References
    ----------
    .. [1] Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

    Examples
    --------
    >>> from instructclf import InstructionTunedClassifier, LoRA
    >>> classifier = InstructionTunedClassifier(adapter=LoRA(rank=8))
    >>> classifier.set_params(adapter__dropout=0.1).adapter
    LoRA(dropout=0.1, rank=8)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "rank": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "target_modules": [str, list, tuple],
        "n_layers": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float | None = None,
        dropout: float = 0.0,
        target_modules: str | list[str] | tuple[str, ...] = "all-linear",
        n_layers: int | None = None,
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.n_layers = n_layers

    def describe(self) -> LoraSettings:
        """Return the adapter as the engine takes it, with every default filled in.

        Returns
        -------
        LoraSettings
            A frozen copy.
        """
        targets = self.target_modules
        return LoraSettings(
            rank=self.rank,
            alpha=2 * self.rank if self.alpha is None else self.alpha,
            dropout=self.dropout,
            target_modules=targets if isinstance(targets, str) else tuple(targets),
            n_layers=self.n_layers,
        )


class TrainingOptions(BaseEstimator):
    """How training stops, resumes and saves memory.

    Parameters
    ----------
    warmup_ratio : float, default=0.1
        The share of all steps in which the learning rate rises. It then falls to zero.
    tol : float, default=1e-3
        The smallest decrease of the training loss that counts as an improvement.
    n_iter_no_change : int, default=3
        Training stops after this many epochs without an improvement. Raise it if the loss is noisy.
    target_loss : float, default=0.05
        Training stops when the mean negative log-probability of the right label among the labels is
        at most this; with ``loss="lm"``, that of its words among all words, which is never lower.
        Raise it to stop earlier.
    gradient_checkpointing : bool, default=False
        Whether layers run a second time in the backward pass instead of keeping their results. Set
        it if memory runs out: tuning takes a fraction of the memory and about half as much time
        again. Gradients stay the same.
    warm_start : bool, default=False
        Whether ``fit`` starts from the adapter of the previous fit, which must have had the same
        classes and an adapter of the same shape. The optimiser and its schedule start again.
    checkpoint_dir : str, path or None, default=None
        A folder that lets ``fit`` continue after its process was killed, to the same adapter, and
        that keeps finished fits so that they need not be repeated. Clones, seeds and processes may
        share it: each training run has a file named after everything that determines the run. It is
        written after the first step, then so often that it takes at most a twentieth of the time,
        and at the end. Takes a ``random_state``.
    seed_average : {"log_proba", "adapter"}, default="log_proba"
        What is averaged with ``n_seeds`` above 1. ``"log_proba"``: the calibrated
        log-probabilities; a prediction takes ``n_seeds`` times as long. ``"adapter"``: the updates
        of the weights, in one adapter of ``n_seeds`` times the rank, which is exactly their mean; a
        prediction takes as long as with one seed.

    Examples
    --------
    >>> from instructclf import InstructionTunedClassifier, TrainingOptions
    >>> classifier = InstructionTunedClassifier(training_options=TrainingOptions(tol=0.0))
    >>> classifier.get_params()["training_options__tol"]
    0.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "warmup_ratio": [Interval(Real, 0, 1, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "target_loss": [Interval(Real, 0, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
        "warm_start": ["boolean"],
        "checkpoint_dir": [str, PathLike, None],
        "seed_average": [StrOptions({"log_proba", "adapter"})],
    }

    def __init__(
        self,
        *,
        warmup_ratio: float = 0.1,
        tol: float = 1e-3,
        n_iter_no_change: int = 3,
        target_loss: float = 0.05,
        gradient_checkpointing: bool = False,
        warm_start: bool = False,
        checkpoint_dir: str | PathLike[str] | None = None,
        seed_average: str = "log_proba",
    ) -> None:
        self.warmup_ratio = warmup_ratio
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.target_loss = target_loss
        self.gradient_checkpointing = gradient_checkpointing
        self.warm_start = warm_start
        self.checkpoint_dir = checkpoint_dir
        self.seed_average = seed_average


def given_or_default(options: Any, kind: Callable[[], Any]) -> Any:
    """Return the options given, or all defaults in place of ``None``."""
    return kind() if options is None else options


def describe_adapter(adapter: LoRA | Any) -> AdapterSettings:
    """Return an adapter as the engine takes it: a copy that later changes do not reach."""
    if isinstance(adapter, BaseEstimator):
        return adapter.describe()  # pyright: ignore[reportAttributeAccessIssue]
    return PeftSettings(copy.deepcopy(adapter))
