"""A folder of JSON and safetensors → a fitted classifier with a prompt: what ``writing`` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from instructclf.classifiers.label_scores import Answers
from instructclf.classifiers.labellers import (
    JointEnsemble,
    JointLabeller,
    Labeller,
    LabellerEnsemble,
)
from instructclf.classifiers.saving.json_values import from_json
from instructclf.classifiers.saving.places import Place
from instructclf.classifiers.saving.writing import IN_ADAPTER
from instructclf.classifiers.shots import ShotsPerText
from instructclf.engine.interfaces import Question
from instructclf.engine.models.fingerprints import find_difference
from instructclf.engine.models.names import find_path
from instructclf.engine.tuning.adapters import PeftSettings, read_config
from instructclf.engine.tuning.fitted_adapters import read_fitted_adapter
from instructclf.engine.tuning.runs import TrainingRecord
from instructclf.exceptions import ModelLoadingError, SavedClassifierError

_OF_THE_FIT = ("adapter", "n_seeds", "sampler", "training_options__seed_average")
"""Parameters that describe what was fitted. A loaded classifier must not contradict them."""


def read_prompted(
    kind: type, record: Mapping[str, Any], place: Place, changes: Mapping[str, Any]
) -> Any:
    """Return the classifier in a folder whose files have been checked.

    Raises
    ------
    SavedClassifierError
        If a parameter is unknown or says what was fitted, or the base model is another one.
    ModelLoadingError
        If the base model cannot be loaded.
    """
    check_known(kind, [*record["parameters"], *changes])
    folder = place.folder
    parameters = {
        name: _read_config(record["fitted"], folder) if value == IN_ADAPTER else from_json(value)
        for name, value in record["parameters"].items()
    }
    if "model" not in changes:
        parameters["model"] = _find_model(parameters["model"], record.get("base_path"), place)
    classifier = kind(**parameters)
    _change(classifier, changes)
    classifier.labeller_ = _restore_labeller(record["fitted"], folder)
    _check_base(record, classifier, place, changes)
    return classifier


def _find_model(name: str, base_path: str | None, place: Place) -> str:
    """Return the name of the base model or, if it is not here under this name, where it is."""
    if base_path is None or name == "bundled" or find_path(name) is not None:
        return name
    folder = place.folder
    for path in (folder / base_path, folder / name):
        if path.exists():
            return str(path.resolve())
    msg = (
        f"The base model {name!r} of the classifier in {str(folder)!r} is not here: there is no "
        f"{str(Path(name).absolute())!r} and no {str((folder / base_path).resolve())!r}. Say where "
        f"it is: {place.loading_with('model')}."
    )
    raise ModelLoadingError(msg)


def _restore_labeller(fitted: Mapping[str, Any], folder: Path) -> Any:
    if "questions" in fitted:
        return _restore_joint(fitted, folder)
    if "members" in fitted:
        members = tuple(
            _restore_labeller(member, folder / f"seed-{number}")
            for number, member in enumerate(fitted["members"])
        )
        average = None if fitted["average"] is None else _restore_one(fitted["average"], folder)
        kind = JointEnsemble if isinstance(members[0], JointLabeller) else LabellerEnsemble
        return kind(members, tuple(fitted["seeds"]), average)
    return _restore_one(fitted, folder)


def _restore_joint(fitted: Mapping[str, Any], folder: Path) -> JointLabeller:
    answers = tuple(Answers(**from_json(own)) for own in fitted["questions"])
    whole = _restore_one(fitted["whole"], folder)
    groups = tuple(end - start for start, end in sorted({own.part for own in answers}))
    return JointLabeller(replace(whole, question=replace(whole.question, groups=groups)), answers)


def _restore_one(fitted: Mapping[str, Any], folder: Path) -> Labeller:
    values = {name: from_json(value) for name, value in fitted.items() if name != "adapter"}
    per_text = values["shots_per_text"]
    question = Question(
        values["prompt"],
        values["label_words"],
        values["max_length"],
        None if per_text is None else ShotsPerText(*per_text),
    )
    training = values["training"]
    return Labeller(
        values["classes"],
        question,
        values["calibration"],
        values["shots"],
        adapter=_restore_adapter(fitted["adapter"], folder),
        training=None if training is None else TrainingRecord(**training),
    )


def _restore_adapter(described: Any, folder: Path) -> Any:
    if described is None:
        return None
    in_file = described == IN_ADAPTER
    settings = PeftSettings(read_config(folder)) if in_file else from_json(described)
    return read_fitted_adapter(folder, settings)


def _read_config(fitted: Mapping[str, Any], folder: Path) -> Any:
    """Return a configuration of PEFT: the adapter's, or that of the first of several."""
    return read_config(folder / "seed-0" if "members" in fitted else folder)


# Checks


def check_known(kind: type, given: Sequence[str]) -> None:
    """Raise an error if a classifier does not have all these parameters.

    Raises
    ------
    SavedClassifierError
        If one is unknown.
    """
    names = list(kind().get_params(deep=False))
    unknown = sorted({name.partition("__")[0] for name in given} - set(names))
    if unknown:
        msg = (
            f"{kind.__name__} has no parameter {unknown[0]!r}. Its parameters are "
            f"{', '.join(names)}."
        )
        raise SavedClassifierError(msg)


def _change(classifier: Any, changes: Mapping[str, Any]) -> None:
    """Set parameters, and raise if one of them says what the fitted classifier is."""
    before = _describe_fit_parameters(classifier)
    classifier.set_params(**changes)
    after = _describe_fit_parameters(classifier)
    for name in before:
        if after[name] != before[name]:
            given = next(own for own in changes if own.startswith(name.partition("__")[0]))
            msg = (
                f"{given}={changes[given]!r} cannot be set while loading: {name} says what was "
                f"fitted, with {name}={before[name]!r}. Load without it, then set it and fit again."
            )
            raise SavedClassifierError(msg)


def _describe_fit_parameters(classifier: Any) -> dict[str, Any]:
    parameters = classifier.get_params(deep=True)
    return {name: repr(parameters[name]) for name in _OF_THE_FIT if name in parameters}


def _check_base(
    record: Mapping[str, Any], classifier: Any, place: Place, changes: Mapping[str, Any]
) -> None:
    try:
        model = classifier.open_model()
    except ModelLoadingError as error:
        if "model" in changes or find_path(str(classifier.model)) is not None:
            raise
        msg = f"{error} If its base model is somewhere else now: {place.loading_with('model')}."
        raise ModelLoadingError(msg) from error
    difference = find_difference(record["base"], model.fingerprint())
    if difference is not None:
        msg = (
            f"The classifier in {str(place.folder)!r} was made with another base model than "
            f"{str(classifier.model)!r} is now: the {difference} differs. Load it with the model "
            f"it was made with, {place.loading_with('model')}, or fit it again."
        )
        raise SavedClassifierError(msg)
