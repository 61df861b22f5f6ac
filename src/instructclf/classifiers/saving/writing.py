"""Fitted classifier → a folder of JSON and safetensors, or one model for plain transformers.

A folder holds ``classifier.json``, ``README.md``, and for a tuned classifier its adapter as PEFT
stores adapters. The base model is not copied: its name is stored, with a fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.labellers import (
    JointLabeller,
    Labeller,
    LabellerEnsemble,
    OpenModel,
)
from instructclf.classifiers.options import LoRA, describe_adapter, given_or_default
from instructclf.classifiers.saving.cards import write_card
from instructclf.classifiers.saving.folders import find_versions, write_folder, write_json
from instructclf.classifiers.saving.json_values import to_json
from instructclf.engine.interfaces import LanguageModel
from instructclf.engine.models.names import find_path
from instructclf.engine.tuning.adapters import PeftSettings
from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from instructclf.inputs.paths import expand
from instructclf.storage import replacing_folder

PROMPT = "prompt.json"
IN_ADAPTER = {"file": "adapter_config.json"}
"""A configuration of PEFT, which PEFT stores with the adapter and reads again."""


def save_classifier(
    classifier: Any,
    open_model: OpenModel,
    folder: str | PathLike[str],
    scores: Mapping[str, float] | None = None,
    *,
    model_name: str | None = None,
    source: str = "this folder",
) -> None:
    """Write a fitted classifier into a folder, in one step.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    SavedClassifierError
        If a parameter cannot be written as text, or the folder holds something else.
    """
    check_is_fitted(classifier)
    _check_named(classifier)
    _check_adapter_parameter(classifier)
    model = open_model()
    record = {
        "base": model.fingerprint(),
        "base_path": None if model_name else _find_relative_path(classifier.model, expand(folder)),
        "class": type(classifier).__name__,
        "parameters": _describe_parameters(classifier, model_name),
        "fitted": _describe_fitted(classifier.labeller_),
    }
    name = model_name or str(classifier.model)
    write_folder(
        expand(folder),
        record,
        write_parts=lambda fresh: _write_adapters(classifier.labeller_, model, fresh, name),
        write_card=lambda versions: write_card(classifier, name, source, versions, scores or {}),
    )


def export_classifier(classifier: Any, model: LanguageModel, folder: str | PathLike[str]) -> None:
    """Write a model that answers as a classifier does, for plain transformers.

    Raises
    ------
    SavedClassifierError
        If the folder holds something else, or a merged model would answer otherwise.
    """
    labeller = classifier.labeller_
    calibration = labeller.calibration
    with replacing_folder(expand(folder), PROMPT) as fresh:
        try:
            model.export(labeller.adapter, fresh)
        except ModelLoadingError as error:
            raise SavedClassifierError(str(error)) from error
        record = {
            "before": labeller.prompt.beginning,
            "after": labeller.prompt.ending(""),
            "labels": labeller.classes.tolist(),
            "answers": [list(answers) for answers in labeller.label_words],
            "calibration": {
                "bias": np.asarray(calibration.bias).tolist(),
                "temperature": float(calibration.temperature),
                "n_rows": int(calibration.n_rows),
            },
            "versions": find_versions(),
        }
        write_json(fresh / PROMPT, record)


# Description


def _describe_parameters(classifier: Any, model_name: str | None) -> dict[str, Any]:
    parameters = classifier.get_params(deep=False)
    if model_name is not None:
        parameters["model"] = model_name
    if parameters.get("training_options") is not None:
        # Checkpoints are in a folder of this machine, and change no prediction.
        options: Any = clone(parameters["training_options"])
        parameters["training_options"] = options.set_params(checkpoint_dir=None)
    return {
        name: IN_ADAPTER if _is_peft_config(name, value) else to_json(value, name)
        for name, value in parameters.items()
    }


def _find_relative_path(model: Any, folder: Path) -> str | None:
    """Return the path from a saved folder to its base model, if that is on this machine.

    A relative name alone would lead elsewhere from another working directory.
    """
    path = find_path(str(model))
    try:
        return None if path is None else Path(relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return None


def _is_peft_config(name: str, value: Any) -> bool:
    return name == "adapter" and value is not None and not isinstance(value, BaseEstimator)


def _describe_fitted(labeller: Labeller | LabellerEnsemble | JointLabeller) -> dict[str, Any]:
    if isinstance(labeller, LabellerEnsemble):
        return {
            "members": [_describe_fitted(member) for member in labeller.members],
            "seeds": list(labeller.seeds),
            "average": None if labeller.average is None else _describe_fitted(labeller.average),
        }
    if isinstance(labeller, JointLabeller):
        questions = [to_json(vars(own), "questions") for own in labeller.answers]
        return {"whole": _describe_fitted(labeller.whole), "questions": questions}
    per_text, training = labeller.shots_per_text, labeller.training
    values = {
        "classes": labeller.classes,
        "prompt": labeller.prompt,
        "label_words": labeller.label_words,
        "max_length": labeller.max_length,
        "calibration": labeller.calibration,
        "shots": labeller.shots,
        "shots_per_text": None
        if per_text is None
        else (per_text.sampler, per_text.solved, per_text.codes, per_text.n_shots, per_text.seed),
        "training": None if training is None else asdict(training),
    }
    return {
        **{name: to_json(value, name) for name, value in values.items()},
        "adapter": _describe_adapter(labeller.adapter),
    }


def _describe_adapter(adapter: Any) -> Any:
    if adapter is None or isinstance(adapter.settings, PeftSettings):
        return None if adapter is None else IN_ADAPTER
    return to_json(adapter.settings, "adapter")


def _write_adapters(
    labeller: Labeller | LabellerEnsemble | JointLabeller,
    model: LanguageModel,
    folder: Path,
    model_name: str,
) -> None:
    """Write the adapter of a labeller, those of members into folders of their own."""
    if not isinstance(labeller, LabellerEnsemble):
        if labeller.adapter is not None:
            folder.mkdir(exist_ok=True)
            model.write_adapter(labeller.adapter, folder, model_name)
        return
    for number, member in enumerate(labeller.members):
        _write_adapters(member, model, folder / f"seed-{number}", model_name)
    if labeller.average is not None:
        _write_adapters(labeller.average, model, folder, model_name)


# Checks


def _check_named(classifier: Any) -> None:
    """Raise if nobody could find the base model again."""
    if isinstance(classifier.model, tuple):
        msg = (
            "A classifier whose 'model' is a pair of objects cannot be saved: its base model has "
            "no name to find it by. Save the model and its tokenizer to a folder with "
            "save_pretrained, and give that folder as 'model'."
        )
        raise SavedClassifierError(msg)


def _check_adapter_parameter(classifier: Any) -> None:
    """Raise if the parameters now describe another adapter: a reader would believe them."""
    labeller = classifier.labeller_
    members = labeller.members if isinstance(labeller, LabellerEnsemble) else (labeller,)
    if members[0].adapter is None:
        return
    fitted = members[0].adapter.settings, len(members)
    described = describe_adapter(given_or_default(classifier.adapter, LoRA)), classifier.n_seeds
    if fitted != described:
        msg = (
            "Parameters have been set since this was fitted that describe another adapter, "
            f"{described[0]} with n_seeds={described[1]}. The fitted one is {fitted[0]} with "
            f"n_seeds={fitted[1]}. Set them back, or fit again, then save."
        )
        raise SavedClassifierError(msg)
