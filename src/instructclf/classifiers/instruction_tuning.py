"""Instruction tuning: the shots train an adapter, and the prompt stays short."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from instructclf.calibration import Calibrator
from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.fitting import Learned, Rows
from instructclf.classifiers.labellers import LabellerEnsemble
from instructclf.classifiers.options import LoRA, ModelOptions, TrainingOptions
from instructclf.classifiers.parameters import CLASSIFIER_CONSTRAINTS, documented
from instructclf.classifiers.tuning import (
    average_members,
    check_tuning_order,
    check_tuning_parameters,
    check_tuning_sampler,
    check_tuning_seeds,
    export_tuned,
    tune_on_shots,
)
from instructclf.engine.interfaces import LanguageModel, Question
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler


@documented
class InstructionTunedClassifier(PromptedClassifier):
    """Tune a language model with LoRA to answer an instruction with the label.

    ``fit`` trains a small adapter on the rows. The base model does not change, and all classifiers
    share it. The prompt holds the instruction and the definitions but no shots, so a prediction is
    faster than with shots in the prompt. Labels are scored by likelihood, never generated, so every
    answer is a label.

    Parameters
    ----------
    {model}
    {label_definitions}
    {verbalizer}
    {instruction}
    {template}
    n_shots : int or None, default=None
        How many rows the adapter is trained on. ``None`` takes all rows. Set it to leave rows for
        ``calibration``, or to train faster.
    {sampler}
    {label_order}
    n_seeds : int, default=1
        How many adapters are trained, each with its own seed, spawned from ``random_state``: other
        shots, another order of rows and other initial weights. Raise it to depend less on the draw;
        ``fit`` takes ``n_seeds`` times as long.
    calibration : "auto", None or object with a calibrate method, default="auto"
        How the bias of the prompt towards a label is removed. ``"auto"`` subtracts from each
        label's log-likelihood its class-balanced mean over labelled rows that are not shots, shrunk
        towards zero by what chance would give, and fits a temperature (Platt, 1999).
        Without such rows, and with ``None``, it only normalises. Other methods are in
        `instructclf.calibration`; any object with the same method works.
    adapter : LoRA, peft.PeftConfig or None, default=None
        The weights that training adds. ``None`` takes `LoRA` with its defaults, and nested names
        reach it, such as ``adapter__rank``. A configuration of PEFT, such as
        ``peft.LoraConfig(use_dora=True)`` or ``peft.IA3Config()``, is copied and runs PEFT's own
        layers. Three kinds raise an error: those that work outside the layers of a model, that
        change weights of the base model, or that move parameters between layers in training
        (AdaLoRA).
    loss : {"lm", "label", "lm+label"}, default="label"
        What is minimised. ``"label"``: the negative log-probability of the label among the labels.
        ``"lm"``: the mean negative log-likelihood of the response's tokens, its end included.
        ``"lm+label"``: the sum of both. With few rows and two labels, ``"label"`` is the most
        accurate on real models. Take ``"lm+label"`` to abstain by ``label_mass``, or to generate
        text with the tuned model: ``"label"`` does not teach the model to prefer the labels to all
        other words. With many labels of several tokens ``"lm"`` is faster, since the other labels
        are not computed.
    class_weight : dict, "balanced" or None, default=None
        How much the rows of each class count, ``{label: weight}``, in addition to
        ``sample_weight``. Labels without an entry weigh 1. ``"balanced"`` gives the rows of each
        class the same total weight. ``None`` weighs all rows alike. Calibration is not weighted.
    learning_rate : float, default=1e-4
        The highest learning rate of AdamW: the rate rises to it linearly, and then falls to 0.
        Raise it for thousands of rows, or for a small model.
    max_epochs : int, default=20
        The largest number of passes over the rows. Training often stops earlier, by its loss
        (`TrainingOptions`). The default suits a handful of rows; take one to three for thousands.
    batch_size : int, default=8
        Rows of one optimiser step. Raise it for thousands of rows, with a higher learning rate.
    training_options : TrainingOptions or None, default=None
        How training stops, resumes and saves memory, and how seeds are averaged. Set it if memory
        is short or a fit may be cut off. ``None`` takes all defaults. Nested names reach it, such
        as ``training_options__tol``.
    {model_options}
    random_state : int, RandomState instance or None, default=None
        Decides which shots are drawn, the initial adapter and the order of rows in training. Set it
        to get the same classifier again.
    {verbose}

    Attributes
    ----------
    {classes_}
    {label_words_}
    shots_ : ndarray of shape (n_shots,)
        Which rows of ``X`` became shots, in the order of their use.
    {prompt_}
    {max_length_}
    {calibration_}
    adapter_ : dict of str to Tensor
        The adapter's weights, named as PEFT names them.
    loss_curve_ : list of float
        The mean training loss of each epoch, as ``loss`` defines it, weighted like the rows.
    n_iter_ : int
        The number of epochs.
    stopped_by_ : {"max_epochs", "n_iter_no_change", "target_loss"}
        Why training ended.
    estimators_ : list of InstructionTunedClassifier
        With ``n_seeds`` above 1, the fitted classifier of each seed. Then only they have
        ``loss_curve_``, ``n_iter_`` and ``stopped_by_``, and ``shots_`` are the rows that any of
        them was trained on. With ``seed_average="log_proba"``, only they have ``prompt_``,
        ``calibration_`` and ``adapter_`` too.
    {labeller_}

    See Also
    --------
    PromptClassifier : Shows the shots in the prompt instead, and trains nothing.

    References
    ----------
    .. [1] Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    .. [2] Taori et al., "Stanford Alpaca: An Instruction-following LLaMA model", 2023.

    Examples
    --------
    >>> from instructclf import InstructionTunedClassifier, LoRA
    >>> classifier = InstructionTunedClassifier(adapter=LoRA(rank=8), max_epochs=1, random_state=0)
    >>> classifier.get_params()["adapter__rank"]
    8
    """

    _OPTIONS: ClassVar[dict[str, type[BaseEstimator]]] = {
        "model_options": ModelOptions,
        "adapter": LoRA,
        "training_options": TrainingOptions,
    }
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CLASSIFIER_CONSTRAINTS,
        "n_shots": [Interval(Integral, 1, None, closed="left"), None],
        "adapter": "no_validation",  # takes an import of peft: see `check_adapter`
        "loss": [StrOptions({"lm", "label", "lm+label"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "training_options": [TrainingOptions, None],
    }

    adapter_ = property(lambda self: self.labeller_.adapter.weights)
    loss_curve_ = property(lambda self: self.labeller_.training.loss_curve)
    n_iter_ = property(lambda self: len(self.loss_curve_))
    stopped_by_ = property(lambda self: self.labeller_.training.stopped_by)

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] | LanguageModel = "bundled",
        *,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str | list[str]] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = None,
        sampler: str | ShotSampler = "balanced",
        label_order: str | Sequence[Any] = "sorted",
        n_seeds: int = 1,
        calibration: str | Calibrator | None = "auto",
        adapter: LoRA | Any = None,
        loss: str = "label",
        class_weight: dict[Any, float] | str | None = None,
        learning_rate: float = 1e-4,
        max_epochs: int = 20,
        batch_size: int = 8,
        training_options: TrainingOptions | None = None,
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
        self.adapter = adapter
        self.loss = loss
        self.class_weight = class_weight
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.training_options = training_options
        self.model_options = model_options
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
            How much each row counts in training. Only ratios matter: a weight of 2 equals the row
            given twice, if both fit into one batch. A row with a weight of 0 is left out. Weights
            do not decide which rows become shots, and do not enter the calibration. ``None`` weighs
            all rows alike.

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
            ``verbalizer`` or ``class_weight``, or differ from those of the fit that ``warm_start``
            continues.
        InvalidShotsError
            If there are fewer rows than shots, or fewer shots than labels, or if the sampler
            chooses shots for each text.
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
            If parameters contradict each other, the model cannot have such an adapter,
            ``sample_weight`` is not one finite number for each text, 0 or more and not all 0, or
            adapters of several seeds have no exact mean.

        Warns
        -----
        FailedRunWarning
            If training learned nothing and was started again with another seed.
        ChanceLevelWarning
            If rows that were held out for calibration are labelled no better than by chance.
        """
        return self._fit(X, y, sample_weight)

    def export(self, folder: str | PathLike[str]) -> None:
        """Write base model and adapter as one model, which plain transformers loads.

        The folder also gets the tokenizer, and ``prompt.json``: what stands before and after a
        text, the answers of each label, and the calibration. Of several processes that share the
        work only the first writes.

        Parameters
        ----------
        folder : str or path
            Where to. A model exported there before is replaced; anything else is an error.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        SavedClassifierError
            If there is no single model to write, because predictions of several seeds are averaged
            or ``quantization="4bit"`` loads the base model; or if the folder holds something else.

        Notes
        -----
        Weights are written in the precision they are in. Half precision rounds away an update that
        is small compared with its weight: load with ``model_options__dtype="float32"`` to export
        scores that stay the same.
        """
        check_is_fitted(self)
        export_tuned(self, self._fitted_model, folder)

    def _validate_params(self) -> None:
        super()._validate_params()
        check_tuning_parameters(self)

    def _check_draws(self) -> None:
        check_tuning_sampler(self)
        check_tuning_order(self)
        if self.n_seeds > 1:
            check_tuning_seeds(self)

    def _average(
        self, ensemble: LabellerEnsemble, rows: Rows, model: LanguageModel
    ) -> LabellerEnsemble:
        return average_members(self, ensemble, rows, model)

    def _learn(
        self, model: LanguageModel, question: Question, shots: Rows, rng: np.random.RandomState
    ) -> Learned:
        return tune_on_shots(self, model, question, shots, rng=rng, previous=self._previous)
