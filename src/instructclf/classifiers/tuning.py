"""What `InstructionTunedClassifier` does with its parameters: checks, an adapter, an export."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.calibration import no_calibration
from instructclf.classifiers.fitting import Learned, Rows, calibrate_labeller, random_generator
from instructclf.classifiers.labellers import Labeller, LabellerEnsemble, OpenModel
from instructclf.classifiers.labels import UNORDERED
from instructclf.classifiers.options import (
    LoRA,
    ModelOptions,
    TrainingOptions,
    describe_adapter,
    given_or_default,
)
from instructclf.classifiers.saving.writing import export_classifier
from instructclf.classifiers.weights import weigh_rows
from instructclf.engine.interfaces import LabelledTexts, LanguageModel, Question
from instructclf.engine.running.processes import is_first_process
from instructclf.engine.tuning.adapters import check_peft_config
from instructclf.engine.tuning.fitted_adapters import average_adapters
from instructclf.engine.tuning.runs import TrainingSettings
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError, SavedClassifierError
from instructclf.inputs.paths import expand
from instructclf.sampling import PerInputSampler, get_sampler


def check_tuning_parameters(classifier: Any) -> None:
    """Raise if parameters contradict each other, before a model is loaded.

    Raises
    ------
    InvalidParameterError
        If the adapter cannot be tuned, or checkpoints cannot be kept.
    """
    _check_adapter(given_or_default(classifier.adapter, LoRA))
    _check_checkpoint_dir(_training_options(classifier), classifier.random_state)


def check_tuning_sampler(classifier: Any) -> None:
    """Raise if shots would be chosen for each text: an adapter is trained once.

    Raises
    ------
    InvalidShotsError
        If its sampler chooses for each text.
    """
    sampler = get_sampler(classifier.sampler)
    if classifier.n_shots and isinstance(sampler, PerInputSampler):
        msg = (
            f"{type(sampler).__name__} chooses other shots for each text, and "
            f"{type(classifier).__name__} learns from the same shots for all. Use another sampler, "
            "such as 'facility_location' or 'kmeans', or PromptClassifier."
        )
        raise InvalidShotsError(msg)


def check_tuning_order(classifier: Any) -> None:
    """Raise if the labels would be read side by side, which tuning does not do.

    Raises
    ------
    InvalidParameterError
        If ``label_order`` asks for it.
    """
    if classifier.label_order == UNORDERED:
        msg = (
            f"label_order={UNORDERED!r} is only for PromptClassifier: tuning reads the labels as a "
            "list. Set label_order='sorted', or 'random' with several seeds, which averages over "
            "orders."
        )
        raise InvalidParameterError(msg)


def check_tuning_seeds(classifier: Any) -> None:
    """Raise if adapters of several seeds could not be made or averaged as asked for.

    Raises
    ------
    InvalidParameterError
        If parameters contradict each other.
    """
    options = _training_options(classifier)
    if options.warm_start:
        msg = (
            f"warm_start=True continues from one adapter, and n_seeds={classifier.n_seeds} makes "
            "several. Set n_seeds=1 or warm_start=False."
        )
        raise InvalidParameterError(msg)
    averages = options.seed_average == "adapter"
    if averages and not isinstance(given_or_default(classifier.adapter, LoRA), LoRA):
        msg = (
            "seed_average='adapter' takes plain LoRA, whose updates have an exact mean, and "
            f"adapter={classifier.adapter!r} may be anything. Set seed_average='log_proba'."
        )
        raise InvalidParameterError(msg)
    if averages and classifier.label_order in ("random", "cyclic"):
        msg = (
            "seed_average='adapter' makes one classifier, with one prompt, of all seeds, and "
            f"label_order={classifier.label_order!r} gives each a prompt of its own. Set "
            "label_order='sorted' or seed_average='log_proba'."
        )
        raise InvalidParameterError(msg)


def tune_on_shots(
    classifier: Any,
    model: LanguageModel,
    question: Question,
    shots: Rows,
    *,
    rng: np.random.RandomState,
    previous: Labeller | LabellerEnsemble | None,
) -> Learned:
    """Train an adapter on the shots."""
    options = _training_options(classifier)
    start = _find_start(options, previous, shots)
    first, second = (int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=2))
    weights = weigh_rows(classifier.class_weight, shots.classes, shots.codes, shots.weights)
    tuned = model.tune(
        question,
        LabelledTexts(shots.texts, shots.codes, weights),
        adapter=describe_adapter(given_or_default(classifier.adapter, LoRA)),
        training=_describe_training(classifier, options),
        seeds=(first, second),
        start=start,
        checkpoints=None if options.checkpoint_dir is None else expand(options.checkpoint_dir),
        verbose=classifier.verbose,
    )
    return Learned(question, tuned.scorer, tuned.adapter, tuned.record)


def average_members(
    classifier: Any, ensemble: LabellerEnsemble, rows: Rows, model: LanguageModel
) -> LabellerEnsemble:
    """Add one labeller with the mean of the members' updates, calibrated anew, if asked for."""
    if _training_options(classifier).seed_average != "adapter":
        return ensemble
    mean = Labeller(
        rows.classes,
        ensemble.members[0].question,
        no_calibration(len(rows.classes)),
        ensemble.shots,
        average_adapters([member.adapter for member in ensemble.members]),
    )
    rng = random_generator(classifier.random_state)
    return replace(ensemble, average=calibrate_labeller(classifier, mean, rows, model, rng))


def export_tuned(classifier: Any, open_model: OpenModel, folder: str | PathLike[str]) -> None:
    """Write base model and adapter as one model, if there is one to write.

    Raises
    ------
    SavedClassifierError
        If predictions of several seeds are averaged, or the base model is in 4 bits.
    """
    labeller = classifier.labeller_
    if isinstance(labeller, LabellerEnsemble) and labeller.average is None:
        msg = (
            f"There is no one model to export: n_seeds={len(labeller.members)} adapters are "
            "averaged by what they predict. Fit with seed_average='adapter', or export one of "
            "estimators_."
        )
        raise SavedClassifierError(msg)
    options = given_or_default(classifier.model_options, ModelOptions)
    if options.quantization is not None:
        msg = (
            f"Updates cannot be added to weights in {options.quantization}. Save the classifier, "
            "and export instructclf.load(folder, model_options__quantization=None)."
        )
        raise SavedClassifierError(msg)
    if options.distributed is None or is_first_process():
        export_classifier(classifier, open_model(), folder)


def _training_options(classifier: Any) -> TrainingOptions:
    return given_or_default(classifier.training_options, TrainingOptions)


def _describe_training(classifier: Any, options: TrainingOptions) -> TrainingSettings:
    budget = given_or_default(classifier.model_options, ModelOptions).max_batch_tokens
    return TrainingSettings(
        learning_rate=classifier.learning_rate,
        max_epochs=classifier.max_epochs,
        batch_size=classifier.batch_size,
        warmup_ratio=options.warmup_ratio,
        tol=options.tol,
        n_iter_no_change=options.n_iter_no_change,
        target_loss=options.target_loss,
        max_batch_tokens=None if budget == "auto" else budget,
        gradient_checkpointing=options.gradient_checkpointing,
        loss=classifier.loss,
    )


def _find_start(
    options: TrainingOptions, previous: Labeller | LabellerEnsemble | None, shots: Rows
) -> Any:
    """Return the adapter to begin with, if any."""
    if not options.warm_start or previous is None:
        return None
    earlier, now = previous.classes.tolist(), shots.classes.tolist()
    if earlier != now:
        msg = (
            f"warm_start=True continues a fit with the classes {earlier!r}, and now they are "
            f"{now!r}. Give labels of the same classes, name all of them in label_definitions from "
            "the first fit on, or set training_options=TrainingOptions(warm_start=False)."
        )
        raise InvalidLabelsError(msg)
    return previous.adapter


def _check_adapter(adapter: Any) -> None:
    """Raise unless this is a `LoRA`, or a configuration of PEFT that can be tuned and scored."""
    if isinstance(adapter, LoRA):
        return
    try:
        check_peft_config(adapter)
    except ValueError as error:
        msg = f"The 'adapter' parameter must be a LoRA or {error} instead."
        raise InvalidParameterError(msg) from None


def _check_checkpoint_dir(options: TrainingOptions, random_state: Any) -> None:
    """Raise if a fit that was cut off could not be recognised, or cannot be kept."""
    if options.checkpoint_dir is None:
        return
    if random_state is None:
        msg = (
            f"checkpoint_dir={options.checkpoint_dir!r} continues a fit that draws the same shots "
            "and initial weights again, and random_state=None draws others each time. Set "
            "random_state to an int."
        )
        raise InvalidParameterError(msg)
    folder = expand(options.checkpoint_dir)
    if folder.exists() and not folder.is_dir():
        msg = (
            "The 'checkpoint_dir' parameter of TrainingOptions must be a folder, which is made if "
            f"there is none. Got {str(folder)!r}, which is a file, instead."
        )
        raise InvalidParameterError(msg)
